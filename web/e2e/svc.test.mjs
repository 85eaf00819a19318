// Layers in real decoders: a camera of several spatial and temporal layers in one stream (VP9 and AV1, from Chromium) and one of three
// streams (VP8) are switched down and up again and again under way to a Chromium and a Firefox, each for itself, by how large they show
// the picture. What they show must be of the size that is due, go on forward, and not stand still.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, Server, until } from './lab.mjs'

const server = new Server()
const fps = 20
const camera = { width: 960, height: 540, fps }
// Windows in which Ann's tile is of such a size that a picture so wide is due.
const windows = { 240: { width: 420, height: 340 }, 480: { width: 1000, height: 700 }, 960: { width: 1400, height: 900 } }
// The two are hardly ever at the same layers, and meet in both directions.
const bobs = [240, 960, 480, 240, 480, 960, 240, 960]
const cleos = [480, 240, 960, 240, 960, 480, 960, 480]
const freeze = 300 // ms

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

/** Runs in a page: notes every picture of Ann's that is shown. */
function watch() {
  const now = (t = performance.now()) => performance.timeOrigin + t
  const seen = Object.assign(window.seen, { frames: [], beats: [], stats: [] })
  const { id } = window.sotto.roster.find((p) => p.name === 'Ann')
  const video = document.querySelector(`.tile[data-participant="${id}"] video`)
  const shown = (_, f) => {
    seen.frames.push({ at: now(f.presentationTime), n: f.presentedFrames, width: f.width, height: f.height, ts: f.rtpTimestamp })
    video.requestVideoFrameCallback(shown)
  }
  video.requestVideoFrameCallback(shown)
  setInterval(() => seen.beats.push(now()), 20)
  setInterval(async () => {
    for (const s of (await window.sotto.pc.getStats()).values()) {
      if (s.type !== 'inbound-rtp' || s.kind !== 'video' || !s.framesDecoded) continue
      const { framesDecoded, framesReceived, framesDropped, keyFramesDecoded, pliCount, nackCount, freezeCount, packetsLost } = s
      seen.stats.push({ at: now(), framesDecoded, framesReceived, framesDropped, keyFramesDecoded, pliCount, nackCount, freezeCount, packetsLost })
    }
  }, 250)
}

const resize = (p, size) => (p.page.setViewportSize ?? p.page.setViewport).call(p.page, size)

/** What is shown to somebody now. */
const width = (p) => p.do(() => window.seen.frames.at(-1)?.width)

/** Shows Ann's picture in the sizes that widths asks for, one after the other; returns when each was asked for and there. */
async function switches(p, widths) {
  const steps = []
  let from = 960
  for (const to of widths) {
    const asked = Date.now()
    await resize(p, windows[to])
    await until(`${p.name} gets a picture ${to} wide`, async () => (await width(p)) === to, 15_000)
    steps.push({ from, to, asked, there: Date.now() })
    await new Promise((resolve) => setTimeout(resolve, 700))
    from = to
  }
  return steps
}

/** Where a clock that beats so often was late: from when to when, and how late. */
function pausesOf(beats, every) {
  return beats.slice(1).map((to, i) => ({ from: beats[i], to, ms: to - beats[i] - every })).filter((x) => x.ms > every)
}

/** Sees that what a receiver has shown is as it should be, and returns the figures. */
function judge(name, steps, seen, draws) {
  const { frames, stats } = seen
  // A picture that comes 400 ms after a pause of the camera may still be late from it: the encoder works, and the buffers grow.
  const pauses = [...pausesOf(draws, 1000 / fps).map((x) => ({ ...x, to: x.to + 400 })), ...pausesOf(seen.beats, 20)]
  const gaps = frames.slice(1).map((f, i) => {
    const ms = (f.at - frames[i].at) / Math.max(1, f.n - frames[i].n) // where the page was told late, it showed others meanwhile
    return { from: frames[i].at, to: f.at, ms, charged: ms - Math.max(0, ...pauses.filter((x) => x.from < f.at && x.to > frames[i].at).map((x) => x.ms)) }
  })
  const worst = (s) => Math.max(...gaps.filter((g) => g.to > s.asked && g.from < s.there + 500).map((g) => g.charged))
  const down = steps.filter((s) => s.to < s.from).map(worst)
  const up = steps.filter((s) => s.to > s.from).map(worst)

  assert.deepEqual([...new Set(frames.map((f) => f.width))].sort(), [240, 480, 960], `${name}: the pictures' widths`)
  const odd = frames.find((f) => Math.abs(f.height - (f.width * camera.height) / camera.width) > 1) // encoders like even numbers
  assert.ok(!odd, `${name}: a picture of ${odd?.width}x${odd?.height}`)
  // Between two steps the picture changes once, to what is due: no layer flickers through.
  const changes = frames.map((f) => f.width).filter((w, i, all) => i > 0 && w !== all[i - 1])
  assert.ok(changes.length <= steps.length + 4, `${name}: pictures change their size ${changes.length} times in ${steps.length} steps: ${changes}`)
  for (let i = 1; i < frames.length; i++) {
    const ahead = (frames[i].ts - frames[i - 1].ts) | 0
    assert.ok(ahead > 0 || frames[i].n === frames[i - 1].n, `${name}: the timestamp of picture ${i} goes back by ${-ahead}: ${JSON.stringify(frames.slice(i - 2, i + 2))}`)
  }
  for (const s of stats) {
    const later = stats.find((x) => x.at >= s.at + 1500)
    assert.ok(!later || later.framesDecoded > s.framesDecoded, `${name}: nothing is decoded from ${s.at} to ${later?.at}`)
  }
  const [a, b] = [stats[0], stats.at(-1)]
  const grown = Object.fromEntries(Object.keys(a).map((k) => [k, b[k] - a[k]]))
  assert.ok(grown.pliCount <= 2, `${name}: asked for ${grown.pliCount} key frames`)
  assert.ok(grown.framesDecoded >= draws.length / 2, `${name}: decodes ${grown.framesDecoded} of ${draws.length} pictures`)
  return { down, up, took: steps.map((s) => s.there - s.asked), ...grown, frames: frames.length }
}

const list = (ms) => ms.map((x) => x.toFixed(0)).join(' ')

for (const { codec, streams, spatial, temporal } of [
  { codec: 'vp9', streams: 1, spatial: 3, temporal: 3 },
  { codec: 'av1', streams: 1, spatial: 3, temporal: 3 },
  { codec: 'vp8', streams: 3, spatial: 1 },
]) {
  test(`${codec} in ${streams} stream${streams > 1 ? 's' : ''}, switched down and up`, { timeout: 120_000 }, async () => {
    const ann = await cr.person('Ann', `${server.url}/?lang=en&codec=${codec}`, { tone: 523, hue: 200, ...camera })
    await ann.do(() => window.sotto.setName('Ann'))
    await ann.do(() => window.sotto.newMeeting())
    await until('the preview', async () => (await ann.state()).screen === 'preview')
    await ann.do(() => window.sotto.join())
    await until('Ann is in', async () => (await ann.state()).media === 'connected')
    const room = new URL(ann.page.url()).pathname.split('/').pop()
    const options = '&camera=off&microphone=off'
    const [bob, cleo] = await Promise.all([[cr, 'Bob'], [ff, 'Cleo']].map(([b, name]) => b.person(name, link(server, room, name, options),
      { tone: 784, hue: 30, ...camera, viewport: windows[960] })))
    for (const p of [bob, cleo]) {
      await until(`${p.name} gets the largest picture`, async () => (await p.received())['Ann camera']?.width === 960, 20_000)
      await p.do(watch)
    }
    await until('both are shown it', async () => (await width(bob)) === 960 && (await width(cleo)) === 960)

    // The server has read which layers there are, from nothing but what stands in front of the payload.
    const { layers } = (await server.people(room)).Ann.tracks.find((t) => t.source === 'camera')
    assert.equal(layers.length, streams)
    for (const l of layers) {
      assert.equal(l.spatial, spatial)
      if (temporal) assert.equal(l.temporal, temporal)
    }
    assert.deepEqual([layers.at(-1).width, layers.at(-1).height], [960, 540])

    await ann.do(() => { window.seen.draws = [] })
    const steps = await Promise.all([switches(bob, bobs), switches(cleo, cleos)])
    const people = await server.people(room)
    for (const [p, last] of [[bob, bobs.at(-1)], [cleo, cleos.at(-1)]]) {
      const { id } = people.Ann.tracks.find((t) => t.source === 'camera')
      const { sends } = people[p.name].media.slots.find((s) => s.track === id)
      const level = Math.log2(last / 240)
      assert.equal(streams > 1 ? sends.stream : sends.spatial, level, `${p.name} is sent ${JSON.stringify(sends)}`)
    }
    const draws = await ann.do(() => window.seen.draws)
    for (const [i, p] of [bob, cleo].entries()) {
      const f = judge(p.name, steps[i], await p.do(() => window.seen), draws)
      console.log(`${codec} to ${p.name}: gaps at switches down ${list(f.down)} ms, up ${list(f.up)} ms; took ${list(f.took)} ms; decoded ${f.framesDecoded} of ${draws.length}, ` +
        `key frames ${f.keyFramesDecoded}, PLIs ${f.pliCount}, NACKs ${f.nackCount}, lost ${f.packetsLost}, freezes ${f.freezeCount}`)
      for (const way of ['down', 'up']) assert.ok(Math.max(...f[way]) <= freeze, `${p.name}: a picture stood still for ${list(f[way])} ms at switches ${way}`)
    }
    await Promise.all([ann, bob, cleo].map((p) => p.close()))
  })
}
