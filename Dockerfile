# The server and the client, with the libraries they need and two small models:
#   docker build -t ounce .                # or ./run image, which can do without Docker
#   docker run --rm -p 8500:8500 -p 8502:8502 ounce
#   docker run --rm -p 8500:8500 -p 8502:8502 -v ~/.cache/huggingface:/huggingface:ro ounce \
#     --model code=Salesforce/codegen-350M-mono,method=linear
# The admin service stays on the container's loopback: docker exec NAME ounce models
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY tools/setup.sh tools/
RUN bash -ec 'source tools/setup.sh; install_packages ccache python3 "${build_packages[@]}"'
COPY . .
ARG CMAKE_BUILD_PARALLEL_LEVEL
ENV LANG=C.UTF-8
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DOUNCE_TESTS=OFF -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
 && cmake --build build/release --target ounce-server ounce
# What is ours, as it lies in the image.
RUN install -s -D -t /image/usr/local/bin build/release/ounce-server build/release/ounce \
 && install -D -m 644 -t /image/etc/ounce deploy/container.textproto \
 && install -D -m 644 -t /image/usr/share/doc/ounce LICENSE \
 && cp -r embedded /image/models \
 && chmod -R u=rwX,go=rX /image

FROM ${BASE} AS root
RUN --mount=type=bind,from=build,source=/src/tools,target=/tools \
    --mount=type=bind,from=build,source=/image/usr/local/bin,target=/programs \
    /tools/install_needed.sh /programs/ounce-server /programs/ounce -- \
      ca-certificates fonts-dejavu-core libcairo2 libcurl4 libgrpc++1.51 libjpeg62-turbo libmicrohttpd12 libminizip1 libpcre2-8-0 \
      libpng16-16 libprometheus-cpp-core1.0 libprotobuf32 \
      libspdlog1.10 libssl3 libutf8proc2 libwebp7
COPY --from=build /image/ /

FROM build AS sbom
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,from=root,target=/root-file-system \
    python3 tools/make_sbom.py /root-file-system >/sbom.spdx.json

FROM root
COPY --from=sbom /sbom.spdx.json /usr/share/doc/ounce/
LABEL org.opencontainers.image.title="Ounce" \
      org.opencontainers.image.description="Serves Hugging Face models on CPUs over gRPC, and quantizes them meanwhile" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV HF_HOME=/huggingface
USER 10001:10001
EXPOSE 8500 8502
# On the container's loopback, without TLS whatever the others speak.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["ounce", "--server", "127.0.0.1:8501", "health"]
ENTRYPOINT ["ounce-server", "--config", "/etc/ounce/container.textproto"]
