import { defineConfig } from 'vitest/config';

// The build is committed and compared byte for byte by `make test`, so nothing
// in it may depend on the clock, the host or the folder it is built in.
export default defineConfig({
  base: '/',
  appType: 'spa',
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: ['chrome120', 'firefox128', 'safari17'],
    // A data: URL would need a wider content security policy than we want.
    assetsInlineLimit: 0,
    // The polyfill is an inline script, which the policy forbids.
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: 'assets/[name]-[hash].js',
        chunkFileNames: 'assets/[name]-[hash].js',
        assetFileNames: 'assets/[name]-[hash][extname]',
      },
    },
  },
  server: {
    // `npx vite` beside a running appliance, for work on the client.
    proxy: {
      '/api': { target: 'https://localhost:8443', secure: false },
      '/whep': { target: 'https://localhost:8443', secure: false },
      '/ws': { target: 'wss://localhost:8443', secure: false, ws: true },
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
