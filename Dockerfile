FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
# The caches make a rebuild short; the binary has to leave them before the step ends.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p toolgate \
    && cp target/release/toolgate /toolgate

FROM debian:trixie-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /toolgate /usr/local/bin/toolgate
USER 65532:65532
# Where toolgate.toml is looked for.
WORKDIR /etc/toolgate
ENV TOOLGATE_LOG_FORMAT=json
EXPOSE 8080
ENTRYPOINT ["toolgate"]
