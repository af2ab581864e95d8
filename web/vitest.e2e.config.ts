import { defineConfig } from "vitest/config";

// Browser tests against a running server: MEKONG_URL names it.
export default defineConfig({
  test: {
    include: ["e2e/**/*.test.ts"],
    environment: "node",
    testTimeout: 30_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
