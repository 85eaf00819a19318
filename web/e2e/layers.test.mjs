// What a person sees of others decides what is sent to them, and what the others encode.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, pictures, Server, until } from './lab.mjs'

const server = new Server()
let cr
let ff
let room
let ann // Chromium, publishes, and looks at little
let cleo // Firefox, the same
let ben // Chromium, looks

const small = { width: 420, height: 340 }
const large = { width: 1400, height: 900 }

before(async () => {
  mkdirSync(pictures, { recursive: true })
  await server.start()
  ;[cr, ff] = await Promise.all([chromium(), firefox()])
  const camera = { width: 960, height: 540, fps: 12 }
  ann = await cr.person('Ann', `${server.url}/?lang=en`, { tone: 523, hue: 200, viewport: small, ...camera })
  await ann.do(() => window.sotto.setName('Ann'))
  await ann.do(() => window.sotto.newMeeting())
  await until('the preview', async () => (await ann.state()).screen === 'preview')
  await ann.do(() => window.sotto.join())
  await until('Ann is in', async () => (await ann.state()).media === 'connected')
  room = new URL(ann.page.url()).pathname.split('/').pop()
  cleo = await ff.person('Cleo', link(server, room, 'Cleo'), { tone: 1175, hue: 120, viewport: small, ...camera })
  ben = await cr.person('Ben', link(server, room, 'Ben', '&camera=0'), { tone: 784, hue: 30, viewport: small, ...camera })
  await until('Ben gets both', async () => {
    const got = await ben.received()
    return ['Ann', 'Cleo'].every((name) => got[`${name} camera`]?.frames > 10)
  })
}, { timeout: 120_000 })

after(async () => {
  await Promise.all([cr?.close(), ff?.close()])
  await server.stop()
})

/** How wide the picture of somebody is that comes. */
const width = async (name) => (await ben.received())[`${name} camera`]?.width

/** The layers that a publisher sends, as its browser counts them: rid → what was sent in the last second. */
async function sends(p) {
  const count = () => p.do(async () => {
    const out = {}
    for (const s of (await window.sotto.pc.getStats()).values()) {
      if (s.type === 'outbound-rtp' && s.kind === 'video' && s.rid) out[s.rid] = s.packetsSent
    }
    return out
  })
  const first = await count()
  await new Promise((resolve) => setTimeout(resolve, 1000))
  const then = await count()
  return Object.entries(then).filter(([rid, n]) => n > (first[rid] ?? 0)).map(([rid]) => rid).sort().join('')
}

/** Bytes of pictures that Ben has got. */
const bytes = () => ben.do(async () => {
  let sum = 0
  for (const s of (await window.sotto.pc.getStats()).values()) if (s.type === 'inbound-rtp' && s.kind === 'video') sum += s.bytesReceived
  return sum
})

/** Watches for the longest time without a new picture of somebody from now on. */
const watch = (name) => ben.do((who) => {
  const { id } = window.sotto.roster.find((p) => p.name === who)
  const video = document.querySelector(`.tile[data-participant="${id}"] video`)
  window.gap = { longest: 0, last: performance.now(), frames: 0 }
  const next = (now) => {
    window.gap.longest = Math.max(window.gap.longest, now - window.gap.last)
    window.gap.last = now
    window.gap.frames++
    video.requestVideoFrameCallback(next)
  }
  video.requestVideoFrameCallback(next)
}, name)

test('a small tile gets the lowest layer, and nobody encodes more', { timeout: 60_000 }, async () => {
  for (const name of ['Ann', 'Cleo']) await until(`${name} comes small`, async () => (await width(name)) === 240, 15_000)
  for (const p of [ann, cleo]) await until(`${p.name} sends the lowest layer alone`, async () => (await sends(p)) === 'q', 15_000)
})

test('a pinned tile gets the highest layer, without a frozen picture', { timeout: 60_000 }, async () => {
  await ben.page.setViewportSize(large)
  for (const p of [ann, cleo]) {
    await watch(p.name)
    const { id } = await ben.do((name) => window.sotto.roster.find((o) => o.name === name), p.name)
    await ben.page.hover(`.tile[data-participant="${id}"]`)
    await ben.page.click(`.tile[data-participant="${id}"] .tile-pin`)
    await until(`${p.name} comes large`, async () => (await width(p.name)) === 960, 25_000)
    const { longest, frames } = await ben.do(() => window.gap)
    assert.ok(frames > 0 && longest < 1000, `${p.name}: ${frames} frames, ${Math.round(longest)} ms without one`)
    await until(`${p.name} sends every layer`, async () => (await sends(p)) === 'fhq', 15_000)
    await ben.page.mouse.move(5, 5)
    await ben.page.screenshot({ path: join(pictures, `pinned-${p.name.toLowerCase()}.png`) })
  }
  await until('Ann comes smaller again', async () => (await width('Ann')) < 960, 15_000)
  await until('and encodes less', async () => (await sends(ann)) !== 'fhq', 15_000)
})

test('a page in the background gets no pictures, and all of them when it is back', { timeout: 60_000 }, async () => {
  const turn = (visibility) => ben.do((v) => {
    Object.defineProperty(document, 'visibilityState', { value: v, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, visibility)
  await turn('hidden')
  await until('nothing comes any more', async () => {
    const start = await bytes()
    await new Promise((resolve) => setTimeout(resolve, 1500))
    return (await bytes()) === start
  }, 15_000)
  await ben.seesAndHears([]) // the page itself lives
  const heard = await ben.tones()
  assert.ok(Math.abs(heard.Ann - ann.tone) <= 12, `hears Ann at ${heard.Ann} Hz`)
  await turn('visible')
  for (const name of ['Ann', 'Cleo']) {
    const start = (await ben.received())[`${name} camera`]?.frames ?? 0
    await until(`${name} moves again`, async () => ((await ben.received())[`${name} camera`]?.frames ?? 0) > start + 10, 15_000)
  }
})
