# The image of a node: built with the development packages, run without them, as a user that owns nothing but the data.
FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY cmtp cmtp
COPY services services
COPY providers providers
COPY node node
COPY client client
COPY bench bench
COPY contracts contracts
RUN npm run build
RUN npm prune --omit=dev

FROM node:20-bookworm-slim
# The state log's native module is linked against it, and the slim image has none.
RUN apt-get update && apt-get install --yes --no-install-recommends libatomic1 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/package.json package.json
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/contracts contracts
RUN mkdir /data && chown node:node /data
ENV NODE_ENV=production CMESH_DATA_DIR=/data CMESH_HTTP_HOST=0.0.0.0 CMESH_HTTP_PORT=8080
USER node
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=2s --start-period=10s --retries=15 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8080/healthz').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=32", "dist/node/main.js"]
