# Every part of a Ray cluster: head, GPU machines, and the gateway that places workers there. Built from the root of the repository.
# PyPI's torch brings CUDA 13.0 along, so that the driver (580 or newer) is all that the machine adds.
FROM python:3.11-slim
# KubeRay looks after its pods with wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
COPY docs/guides ./docs/guides
# Not into a virtual environment: KubeRay calls `ray` from a login shell, whose PATH is the system's.
RUN pip install --no-cache-dir -c constraints.txt ".[engine,postgres,ray]" \
    && useradd --create-home --uid 10001 flux \
    && install -d -o flux /data \
    && install -d -o flux /models
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility HF_HOME=/models \
    FLUX_ENDPOINT_HOST=0.0.0.0 FLUX_ENDPOINT_DATA_DIR=/data
USER 10001
VOLUME /data /models
EXPOSE 8000
ENTRYPOINT ["flux-endpoint"]
CMD ["serve"]
