// Each codec once: what one browser publishes with it, the other decodes. H264 is between Chromium only: Firefox brings none here.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, Server, until } from './lab.mjs'

const server = new Server()
let cr
let ff

before(async () => {
  await server.start()
  ;[cr, ff] = await Promise.all([chromium(), firefox()])
}, { timeout: 120_000 })

after(async () => {
  await Promise.all([cr?.close(), ff?.close()])
  await server.stop()
})

const small = { width: 320, height: 240 }

for (const [codec, withFirefox] of [['vp8', true], ['vp9', true], ['av1', true], ['h264', false]]) {
  test(`${codec} is decoded at the other end`, { timeout: 120_000 }, async () => {
    const ann = await cr.person('Ann', `${server.url}/?name=Ann&lang=en&codec=${codec}`, { tone: 523, hue: 200, ...small })
    await ann.page.fill('input[name=name], #name, input[autocomplete=name]', 'Ann')
    await ann.page.click('[data-action=new]')
    await until('the preview', async () => (await ann.state()).screen === 'preview')
    const room = new URL(ann.page.url()).pathname.split('/').pop()
    await ann.page.goto(link(server, room, 'Ann', `&codec=${codec}`))
    const other = withFirefox ? ff : cr
    const bob = await other.person('Bob', link(server, room, 'Bob', `&codec=${codec}`), { tone: 784, hue: 30, ...small })
    for (const [p, o] of [[ann, 'Bob'], [bob, 'Ann']]) {
      const got = await until(`${p.name} decodes ${codec}`, async () => {
        const r = (await p.received())[`${o} camera`]
        return (r?.frames ?? 0) > 20 && r
      })
      assert.equal(got.codec, codec)
    }
    await bob.close()
    await ann.close()
  })
}
