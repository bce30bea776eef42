# One build, three images: docker build --target authz|login|gatehouse .
# Without a target: all three programs in one, for trying things out.
#
# ghcr.io/atenex/gatehouse/authz, …/login and …/gatehouse each hold one static
# binary, no shell and no package manager, and run as user 65532.
#
# For amd64 and arm64, built on either without emulation:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target authz \
#     --build-arg VERSION=v1.2.3 --build-arg REVISION=$(git rev-parse HEAD) \
#     --build-arg CREATED=$(git log -1 --format=%cI) \
#     --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
#     --output type=image,push=true,rewrite-timestamp=true .
#
# The same commit gives the same binaries, and with these arguments and the same
# base images (name them by digest in GO_IMAGE and BASE_IMAGE) the same images.

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
# Nothing of the machine goes into a binary: no paths, no build id, no state of a
# work tree, no C library.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    pkg=github.com/atenex/gatehouse/internal/buildinfo && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -mod=readonly -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= -X $pkg.version=$VERSION -X $pkg.revision=$REVISION" \
      -o /out/ ./cmd/authz ./cmd/login ./cmd/gatehouse && \
    mkdir -p /out/volumes/config /out/volumes/secrets/tokens /out/volumes/secrets/database /out/volumes/demo

# The binaries alone: docker buildx build --target binaries --output bin .
FROM scratch AS binaries
COPY --from=build /out/authz /out/login /out/gatehouse /

FROM ${BASE_IMAGE} AS base
ARG VERSION=devel
ARG REVISION=unknown
# RFC 3339. Left at the epoch where nobody says it, so that building again
# gives the same again.
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.source="https://github.com/atenex/gatehouse" \
      org.opencontainers.image.url="https://github.com/atenex/gatehouse" \
      org.opencontainers.image.vendor="Atenex" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.created=$CREATED
COPY LICENSE /licenses/LICENSE
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
# Fresh volumes that are mounted at /config, /secrets/… and /demo belong to the
# user that writes Envoy's configuration and the secrets to them.
COPY --from=build --chown=65532:65532 /out/volumes /
ENTRYPOINT ["/gatehouse"]
CMD ["--help"]

# What a build without --target gives.
FROM gatehouse AS all
LABEL org.opencontainers.image.title="gatehouse, all programs" \
      org.opencontainers.image.description="authz, login and the operator's command in one image"
COPY --from=build /out/authz /authz
COPY --from=build /out/login /login
EXPOSE 8081 8082 9191 9192
