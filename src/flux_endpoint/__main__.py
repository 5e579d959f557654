"""`python -m flux_endpoint` is the command `flux-endpoint`."""

from flux_endpoint.commands.app import main

if __name__ == "__main__":
    main()
