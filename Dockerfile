# The service with its page, on a CPU: docker build -t vc_lightning . (docs/service.md says how to run it)
FROM python:3.12-slim-bookworm AS build

WORKDIR /build
RUN python -m venv /opt/vc
ENV PATH=/opt/vc/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The packages first: they change seldom, and the layer is kept until they do.
COPY pyproject.toml README.md LICENSE constraints.txt ./
RUN mkdir -p src/vc_lightning conf checkpoints \
    && touch src/vc_lightning/__init__.py conf/serve.yaml checkpoints/none.safetensors \
        checkpoints/weights.json \
    && pip install ".[demo,hub]" -c constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu \
    && pip uninstall --yes vc-lightning \
    && rm -r src conf checkpoints

COPY src ./src
COPY conf ./conf
COPY checkpoints/*.safetensors checkpoints/weights.json ./checkpoints/
RUN pip install . --no-deps -c constraints.txt

FROM python:3.12-slim-bookworm

RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin vc \
    && install --directory --owner vc --group vc /data
COPY --from=build /opt/vc /opt/vc

# The root file system may be read-only. /data holds learned voices and caches, /tmp the
# recordings of the requests that are being served.
ENV PATH=/opt/vc/bin:$PATH \
    HOME=/data \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/huggingface \
    NUMBA_CACHE_DIR=/data/cache/numba \
    MPLCONFIGDIR=/data/cache/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME ["/data", "/tmp"]
WORKDIR /data
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["vc-serve", "host=0.0.0.0", "port=8000", "voices.dir=/data/voices"]
