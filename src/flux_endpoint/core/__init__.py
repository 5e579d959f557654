"""The words of the product: job, request, catalogue, price, errors. No I/O."""
