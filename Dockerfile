# The server and the client, with the libraries they need and two small models:
#   docker build -t ounce .
#   docker run --rm -p 8500:8500 -p 8502:8502 ounce
#   docker run --rm -p 8500:8500 -p 8502:8502 -v ~/.cache/huggingface:/huggingface:ro ounce \
#     --model code=Salesforce/codegen-350M-mono,method=linear
# The admin service stays on the container's loopback: docker exec NAME ounce models
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY tools/setup.sh tools/
RUN bash -ec 'source tools/setup.sh; install_packages "${build_packages[@]}"'
COPY . .
RUN cmake --preset release -DOUNCE_TESTS=OFF \
 && cmake --build build/release --target ounce-server ounce \
 && strip build/release/ounce-server build/release/ounce \
 && chmod -R a+rX embedded

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      fonts-dejavu-core libcairo2 libgrpc++1.51 libjpeg62-turbo libmicrohttpd12 libminizip1 libpcre2-8-0 \
      libpng16-16 libprometheus-cpp-core1.0 libprotobuf32 \
      libspdlog1.10 libssl3 libutf8proc2 libwebp7 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log
COPY --from=build /src/LICENSE /usr/share/doc/ounce/
COPY --from=build /src/build/release/ounce-server /src/build/release/ounce /usr/local/bin/
COPY --from=build /src/embedded/codegen-tiny /models/codegen-tiny
COPY --from=build /src/embedded/detr-tiny /models/detr-tiny
COPY deploy/container.textproto /etc/ounce/
ENV HF_HOME=/huggingface
USER 10001:10001
EXPOSE 8500 8502
# On the container's loopback, without TLS whatever the others speak.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["ounce", "--server", "127.0.0.1:8501", "health"]
ENTRYPOINT ["ounce-server", "--config", "/etc/ounce/container.textproto"]
