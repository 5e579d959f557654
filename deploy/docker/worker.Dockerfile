# A worker: one model on one CUDA device. Built from the root of the repository. It listens on no port.
# PyPI's torch 2.13 brings CUDA 13.0 along; this image is small, and refuses to start on a driver too old for that (below 580).
FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
COPY docs/guides ./docs/guides
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[engine]" \
    && useradd --create-home --uid 10001 flux \
    && install -d -o flux /models
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models
USER 10001
VOLUME /models
ENTRYPOINT ["flux-endpoint"]
CMD ["worker"]
