# The gateway: HTTP server, queue and playground; no model, no PyTorch. Built from the root of the repository.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
COPY docs/guides ./docs/guides
RUN pip install --no-cache-dir -c constraints.txt ".[postgres]" \
    && useradd --create-home --uid 10001 flux \
    && install -d -o flux /data
USER 10001
ENV FLUX_ENDPOINT_HOST=0.0.0.0 FLUX_ENDPOINT_WORKERS=0 FLUX_ENDPOINT_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["flux-endpoint"]
CMD ["serve"]
