// One meeting of two Chromium and one Firefox, through everything a person can do in it.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, pictures, Server, until } from './lab.mjs'

const server = new Server()
let cr
let ff
let room
let ann // Chromium, the host
let ben // Chromium
let cleo // Firefox
const everybody = () => [ann, ben, cleo]
const others = (p) => everybody().filter((o) => o !== p)
/** A picture for the documentation, once what came and went is no longer announced. */
async function shot(p, name) {
  await until(`${p.name} has read the notices`, () => p.do(() => window.sotto.state.notices.length === 0))
  await p.page.screenshot({ path: join(pictures, name) })
}

before(async () => {
  mkdirSync(pictures, { recursive: true })
  await server.start()
  ;[cr, ff] = await Promise.all([chromium(), firefox()])
}, { timeout: 120_000 })

after(async () => {
  await Promise.all([cr?.close(), ff?.close()])
  await server.stop()
})

/** Frames go on being decoded, of everybody, at everybody in list. */
async function flows(list) {
  for (const p of list) {
    const start = await p.received()
    await until(`pictures go on at ${p.name}`, async () => {
      const now = await p.received()
      return list.filter((o) => o !== p).every((o) => (now[`${o.name} camera`]?.frames ?? 0) > (start[`${o.name} camera`]?.frames ?? 0) + 5)
    })
  }
}

test('a meeting is opened from the start page', { timeout: 120_000 }, async () => {
  ann = await cr.person('Ann', `${server.url}/?lang=en`, { tone: 523, hue: 200 })
  await shot(ann, 'start.png')
  await ann.page.fill('input[name=name], #name, input[autocomplete=name]', 'Ann')
  await ann.page.click('[data-action=new]')
  await until('the preview', async () => (await ann.state()).screen === 'preview')
  await until('the camera', () => ann.do(() => !!document.querySelector('video')?.videoWidth))
  await shot(ann, 'preview.png')
  await ann.page.click('[data-action=join]')
  await until('Ann is in', async () => (await ann.state()).media === 'connected')
  room = new URL(ann.page.url()).pathname.split('/').pop()
  assert.equal((await ann.state()).role, 'host')
})

test('two Chromium and a Firefox see each other move and hear each other', { timeout: 180_000 }, async () => {
  ben = await cr.person('Ben', link(server, room, 'Ben'), { tone: 784, hue: 30 })
  cleo = await ff.person('Cleo', link(server, room, 'Cleo'), { tone: 1175, hue: 120 })
  for (const p of everybody()) await p.seesAndHears(others(p))
  assert.deepEqual(await cleo.names(), ['Ann', 'Ben', 'Cleo'])
  await shot(ann, 'meeting.png')
})

test('every session is under AES-GCM', { timeout: 30_000 }, async () => {
  for (const p of [ann, ben]) assert.match(await p.cipher(), /AEAD_AES_128_GCM|AES_GCM/, p.name)
  const people = await server.people(room)
  for (const p of everybody()) assert.match(people[p.name].media.cipher, /GCM/, p.name)
})

// Chromium names the codec inside the redundancy in its statistics, so the server is asked.
test('sound comes with redundancy from Chromium, and goes without to those who lose nothing', { timeout: 90_000 }, async () => {
  const counts = async () => ({ came: await server.metric('sotto_sfu_forward_redundant_total'), plain: await server.metric('sotto_sfu_forward_unpacked_total') })
  const start = await counts()
  await until('a second of it', async () => (await counts()).came > start.came + 100)
  const now = await counts()
  // Two who send it, to two others each, of whom Chromium would take it as it is; a few packets are between the two questions.
  assert.ok(now.plain - start.plain > 1.5 * (now.came - start.came), JSON.stringify([start, now]))
  for (const p of everybody()) {
    const received = await p.received()
    for (const o of others(p)) assert.equal(received[`${o.name} microphone`].codec, 'opus', `${o.name} at ${p.name}`)
  }
})

test('three simulcast layers come from both browsers', { timeout: 90_000 }, async () => {
  for (const p of everybody()) {
    await until(`three layers of ${p.name}`, async () => {
      const camera = (await server.people(room))[p.name].tracks.find((t) => t.source === 'camera')
      return camera.layers.length === 3 && camera.layers.every((l) => l.packets > 20)
    })
  }
  // The highest is the one that is sent on.
  for (const p of everybody()) {
    for (const o of others(p)) {
      await until(`${p.name} gets the highest layer of ${o.name}`, async () => (await p.received())[`${o.name} camera`]?.width === 960)
    }
  }
})

test('a muted microphone is not forwarded, and no offer is made for it', { timeout: 90_000 }, async () => {
  const offers = await Promise.all(everybody().map(async (p) => (await p.state()).offers))
  const forwarded = async () => (await server.people(room)).Ben.tracks.find((t) => t.source === 'microphone').forwarded
  await ben.do(() => window.sotto.microphone(false))
  for (const p of others(ben)) await until(`${p.name} sees Ben muted`, () => p.muted('Ben'))
  const start = await forwarded()
  await flows(everybody()) // time in which it would have been
  assert.equal(await forwarded(), start)
  await ben.do(() => window.sotto.microphone(true))
  for (const p of others(ben)) await p.seesAndHears([ben])
  assert.deepEqual(await Promise.all(everybody().map(async (p) => (await p.state()).offers)), offers)
})

test('the host mutes a participant', { timeout: 60_000 }, async () => {
  const me = (await ben.state()).me
  await ann.do((id) => window.sotto.mute(id), me)
  for (const p of everybody()) await until(`${p.name} sees Ben muted`, () => p.muted('Ben'))
  await ben.do(() => window.sotto.microphone(true))
  await cleo.seesAndHears([ben])
})

test('a line of chat reaches everybody', { timeout: 30_000 }, async () => {
  await cleo.do(() => window.sotto.chat('Shall we begin?'))
  for (const p of everybody()) await until(`${p.name} reads it`, async () => (await p.state()).chat.includes('Cleo: Shall we begin?'))
})

test('a screen is shared', { timeout: 90_000 }, async () => {
  await ann.do(() => window.sotto.screen(true))
  for (const p of others(ann)) {
    await until(`${p.name} sees the screen`, async () => ((await p.received())['Ann screen']?.frames ?? 0) > 10)
  }
  await ben.do(() => window.sotto.panel('people'))
  await shot(ben, 'screen.png')
  await ben.do(() => window.sotto.panel(''))
  await ann.do(() => window.sotto.screen(false))
  for (const p of others(ann)) await until(`${p.name} sees it end`, async () => !('Ann screen' in await p.received()))
})

test('a dropped socket is resumed: the same seat, no offer, nothing missed', { timeout: 90_000 }, async () => {
  for (const p of [ben, cleo]) {
    const start = await p.state()
    await p.do(() => window.sotto.dropSocket())
    await ann.do((name) => window.sotto.chat(`while ${name} was away`), p.name)
    await until(`${p.name} reads what was said meanwhile`, async () => (await p.state()).chat.includes(`Ann: while ${p.name} was away`))
    await until(`${p.name} is back`, async () => (await p.state()).link === 'open')
    const now = await p.state()
    assert.equal(now.me, start.me)
    assert.equal(now.offers, start.offers)
  }
  await flows(everybody())
})

test('a change of network restarts ICE and media goes on', { timeout: 120_000 }, async () => {
  for (const p of [ben, cleo]) {
    const before = await p.ufrag()
    await p.do(() => window.sotto.networkChanged())
    await until(`${p.name} has new credentials`, async () => (await p.ufrag()) !== before)
    await flows(everybody())
    await until(`${p.name} is connected`, async () => (await p.state()).media === 'connected')
  }
})

test('a narrow screen, in Japanese', { timeout: 90_000 }, async () => {
  const phone = await cr.person('Dora', `${server.url}/m/${room}?name=Dora&autojoin=1&lang=ja`, {
    tone: 330, hue: 300, viewport: { width: 390, height: 780 }, scheme: 'light',
  })
  await until('Dora sees everybody', async () => Object.keys(await phone.hashes()).length === 4)
  await shot(phone, 'phone-ja.png')
  await phone.do(() => window.sotto.leave())
  for (const p of everybody()) await until(`Dora is gone at ${p.name}`, async () => (await p.names()).length === 3)
  await phone.close()
})

test('the host removes a participant', { timeout: 60_000 }, async () => {
  await ann.do((id) => window.sotto.remove(id), (await ben.state()).me)
  await until('Ben is told', async () => (await ben.state()).over === 'removed')
  for (const p of [ann, cleo]) await until(`Ben is gone at ${p.name}`, async () => !(await p.names()).includes('Ben'))
  await ben.close()
})

test('a server that is killed and started again has everybody back', { timeout: 150_000 }, async () => {
  await server.kill()
  await until('Ann notices', async () => (await ann.state()).link !== 'open')
  await shot(ann, 'reconnecting.png')
  await server.start()
  for (const p of [ann, cleo]) await until(`${p.name} is back`, async () => (await p.state()).media === 'connected' && (await p.state()).link === 'open')
  await ann.seesAndHears([cleo])
  await cleo.seesAndHears([ann])
  assert.equal((await ann.state()).role, 'host')
})
