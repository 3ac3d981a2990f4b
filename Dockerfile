# One image for the API, the migration and the simulator; the command says which.
# Any base with `python3` and its venv module will do; pin a digest where builds must be repeatable.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS builder
WORKDIR /build
# pip and the build backend stay here: the environment that ships has neither, and so nobody can install into it.
RUN python3 -m venv /build/tools && python3 -m venv --without-pip /opt/smsapi
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
COPY requirements-build.lock requirements.lock ./
# Before the source, so that a change of code does not install the dependencies again. Wheels only: there is no compiler
# here, and a source package would fetch build tools that no lock file names.
RUN /build/tools/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
 && /build/tools/bin/pip --python /opt/smsapi/bin/python3 install \
        --require-hashes --only-binary :all: -r requirements.lock
COPY LICENSE README.md pyproject.toml ./
COPY smsapi smsapi
# pip compiles what it installs: the file system is read-only later, and no start should compile again.
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /build/tools/bin/pip --python /opt/smsapi/bin/python3 install --no-deps dist/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="smsapi" \
      org.opencontainers.image.description="A headless JSON API that sends SMS through Plivo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The only place that a container without a mounted volume or a read-only root can write to, beside /tmp: the default
# SQLite file lands here.
RUN install -d -o 10001 -g 10001 /var/lib/smsapi
COPY --from=builder /opt/smsapi /opt/smsapi
# The bytecode is there already (see above); writing it would only fail or grow the container.
ENV PATH=/opt/smsapi/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/smsapi
USER 10001:10001
EXPOSE 8000
# For `serve` on its default port. /healthz says that the process is up; whether it can work is /readyz, for the balancer.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["smsapi"]
CMD ["serve", "--bind", "0.0.0.0:8000"]
