# One build, three images: docker build --target authz|login|gatehouse .
#
# ghcr.io/atenex/gatehouse/authz, …/login and …/gatehouse each hold one static
# binary, no shell and no package manager, and run as user 65532.

ARG GO_IMAGE=golang:1.26.8
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ARG REVISION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    pkg=github.com/atenex/gatehouse/internal/buildinfo && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X $pkg.version=$VERSION -X $pkg.revision=$REVISION" \
      -o /out/ ./cmd/authz ./cmd/login ./cmd/gatehouse && \
    mkdir /out/config

FROM ${BASE_IMAGE} AS base
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/atenex/gatehouse" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
USER 65532:65532
# Not the home directory: a .env that somebody mounts there is not read by accident.
WORKDIR /

FROM base AS authz
LABEL org.opencontainers.image.title="gatehouse authz" \
      org.opencontainers.image.description="Decides for Envoy (ext_authz) who may pass, and as whom"
COPY --from=build /out/authz /authz
EXPOSE 9191 9192
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["/authz", "healthcheck"]
ENTRYPOINT ["/authz"]

FROM base AS login
LABEL org.opencontainers.image.title="gatehouse login" \
      org.opencontainers.image.description="Signs people in, and puts them in a company"
COPY --from=build /out/login /login
EXPOSE 8081 8082
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["/login", "healthcheck"]
ENTRYPOINT ["/login"]

FROM base AS gatehouse
LABEL org.opencontainers.image.title="gatehouse" \
      org.opencontainers.image.description="The operator's command: migrate, user, company, token, envoy, doctor"
COPY --from=build /out/gatehouse /gatehouse
# A fresh volume mounted here belongs to the user that writes Envoy's configuration to it.
COPY --from=build --chown=65532:65532 /out/config /config
ENTRYPOINT ["/gatehouse"]
CMD ["--help"]
