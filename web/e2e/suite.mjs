// All areas in one process, so that the server and the browsers start once.
import { after, before } from 'node:test'
import { close, open } from './lib/stage.mjs'

before(open, { timeout: 120_000 })
after(close, { timeout: 60_000 })

for (const area of ['meeting', 'features', 'recovery', 'codecs', 'screenshots']) {
  if (area.includes(process.env.SOTTO_E2E ?? '')) await import(`./areas/${area}.mjs`)
}
