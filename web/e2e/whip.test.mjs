// WHIP and WHEP with real browsers: both publish by offers of their own, both watch on the page of the broadcast.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, pictures, Server, until } from './lab.mjs'

const server = new Server()
let cr
let ff
let meeting // room and host token
let view // a token to watch
const watchers = []

/** What runs in a page that publishes. */
const whip = {
  /** Makes the session, and trickles. */
  async publish({ path, token, rids = [] }) {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true })
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
    const authorized = { authorization: `Bearer ${token}` }
    pc.addTransceiver(media.getAudioTracks()[0], { direction: 'sendonly' })
    pc.addTransceiver(media.getVideoTracks()[0], {
      direction: 'sendonly', sendEncodings: rids.map((rid, i) => ({ rid, scaleResolutionDownBy: 2 ** (rids.length - 1 - i) })),
    })
    const candidates = []
    const gathered = new Promise((resolve) => {
      pc.onicecandidate = (e) => (e.candidate?.candidate ? candidates.push(e.candidate) : resolve())
    })
    await pc.setLocalDescription()
    const response = await fetch(path, { method: 'POST', headers: { ...authorized, 'content-type': 'application/sdp' }, body: pc.localDescription.sdp })
    const answer = await response.text()
    if (response.status !== 201) return { status: response.status, type: response.headers.get('content-type'), body: answer }
    window.whip = { pc, answer, url: response.headers.get('location'), etag: response.headers.get('etag'), authorized }
    await pc.setRemoteDescription({ type: 'answer', sdp: answer })
    await gathered
    const lines = candidates.filter((c) => c.sdpMLineIndex === 0).map((c) => `a=${c.candidate}`)
    const trickled = await fetch(window.whip.url, {
      method: 'PATCH', headers: { ...authorized, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': window.whip.etag },
      body: `a=mid:0\r\n${lines.join('\r\n')}\r\na=end-of-candidates\r\n`,
    })
    return { status: response.status, trickled: trickled.status, candidates: lines.length }
  },
  /** New credentials for both sides. */
  async restart() {
    const { pc, url, authorized } = window.whip
    const value = (text, name) => new RegExp(`a=${name}:\\S+`).exec(text)?.[0] // Firefox has the password first
    await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }))
    const response = await fetch(url, {
      method: 'PATCH', headers: { ...authorized, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
      body: ['ice-ufrag', 'ice-pwd'].map((name) => `${value(pc.localDescription.sdp, name)}\r\n`).join(''),
    })
    const fragment = await response.text()
    if (response.status !== 200) return { status: response.status, body: fragment }
    let sdp = window.whip.answer
    for (const name of ['ice-ufrag', 'ice-pwd']) sdp = sdp.replaceAll(value(sdp, name), value(fragment, name))
    await pc.setRemoteDescription({ type: 'answer', sdp })
    return { status: response.status, changed: sdp !== window.whip.answer, etag: response.headers.get('etag') !== window.whip.etag }
  },
  async end() {
    const { url, authorized } = window.whip
    const ask = () => fetch(url, { method: 'DELETE', headers: authorized }).then((r) => r.status)
    return [await ask(), await ask()]
  },
  /** Frames that were encoded, by rid. */
  async sent() {
    const out = {}
    for (const s of (await window.whip.pc.getStats()).values()) if (s.type === 'outbound-rtp' && s.kind === 'video') out[s.rid ?? ''] = s.framesEncoded
    return out
  },
  /** Has the browser encode these layers alone. */
  async only(rids) {
    const sender = window.whip.pc.getSenders().find((s) => s.track.kind === 'video')
    const parameters = sender.getParameters()
    for (const e of parameters.encodings) e.active = rids.includes(e.rid)
    await sender.setParameters(parameters)
  },
}

/** What runs in a page that watches. */
const look = {
  state: () => ({ ...window.sotto.state, log: window.sotto.log }),
  async picture() {
    const video = document.querySelector('video')
    let frames = 0
    for (const s of (await window.sotto.pc.getStats()).values()) if (s.type === 'inbound-rtp' && s.kind === 'video') frames = s.framesDecoded
    return { hash: window.lab.hash(video), frames, width: video.videoWidth, shown: video.checkVisibility({ opacityProperty: true }) }
  },
  /** The loudest frequencies of all voices. */
  async tones() {
    const out = []
    for (const { srcObject } of document.querySelectorAll('audio')) out.push(await window.lab.loudest(srcObject))
    return out
  },
  ufrag: () => /a=ice-ufrag:(\S+)/.exec(window.sotto.pc.remoteDescription.sdp)[1],
  words: () => document.querySelector('main').innerText,
}

/** Waits until somebody on the page of the broadcast sees pictures move and hears the tone of who publishes, and not another. */
async function watches(p, publisher, others = []) {
  let before
  await until(`${p.name} sees ${publisher.name} move`, async () => {
    const now = await p.do(look.picture)
    const moved = before && now.shown && now.hash !== before.hash && now.frames > before.frames
    before = now
    return moved
  })
  let heard
  await until(`${p.name} hears ${publisher.name} at ${publisher.tone} Hz`, async () => {
    heard = await p.do(look.tones)
    const near = (tone) => heard.some((f) => Math.abs(f - tone) <= 12)
    return near(publisher.tone) && !others.some((o) => near(o.tone))
  }).catch((e) => { throw new Error(`${e.message} heard: ${heard}`) })
}

const watchLink = (token = view) => `${server.url}/watch/${meeting.room}?lang=en#${token}`
const phase = (p, want) => until(`${p.name} is ${want}`, async () => (await p.do(look.state)).phase === want)

let ann // Chromium, publishes
let cleo // Firefox, publishes
let ben // Chromium, watches
let dora // Firefox, watches

before(async () => {
  mkdirSync(pictures, { recursive: true })
  await server.start()
  ;[cr, ff] = await Promise.all([chromium(), firefox()])
  ann = await cr.person('Ann', `${server.url}/`, { tone: 523, hue: 200 })
  cleo = await ff.person('Cleo', `${server.url}/`, { tone: 1175, hue: 120 })
  const ask = ({ path, body }) => fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }).then((r) => r.json())
  meeting = await ann.do(ask, { path: '/api/v1/meetings', body: {} })
  view = (await ann.do(ask, { path: `/api/v1/meetings/${meeting.room}/watch-token`, body: { hostToken: meeting.hostToken } })).token
  assert.ok(view)
}, { timeout: 120_000 })

after(async () => {
  await Promise.all([cr?.close(), ff?.close()])
  await server.stop()
})

test('who watches before it begins is told so', { timeout: 60_000 }, async () => {
  ben = await cr.person('Ben', watchLink(), {})
  dora = await ff.person('Dora', watchLink(), {})
  watchers.push(ben, dora)
  for (const p of watchers) {
    await phase(p, 'open')
    assert.match(await p.do(look.words), /has not begun/)
  }
})

test('Chromium publishes, both watch', { timeout: 120_000 }, async () => {
  const got = await ann.do(whip.publish, { path: `/whip/${meeting.room}?name=Studio`, token: meeting.hostToken })
  assert.equal(got.status, 201, got.body)
  assert.equal(got.trickled, 204)
  assert.ok(got.candidates > 0)
  for (const p of watchers) await watches(p, ann)
  for (const p of watchers) assert.match(await p.do(look.words), /Live/)
  assert.deepEqual(Object.keys(await server.people(meeting.room)).sort(), ['Broadcast', 'Studio'])
})

test('Firefox publishes too, and is shown in its place', { timeout: 120_000 }, async () => {
  const got = await cleo.do(whip.publish, { path: `/whip/${meeting.room}?name=Second`, token: meeting.hostToken })
  assert.equal(got.status, 201, got.body)
  assert.equal(got.trickled, 204)
  for (const p of watchers) await watches(p, cleo, [ann])
})

test('ICE restarts at both ends, and all goes on', { timeout: 90_000 }, async () => {
  assert.deepEqual(await cleo.do(whip.restart), { status: 200, changed: true, etag: true })
  for (const p of watchers) {
    const old = await p.do(look.ufrag)
    await p.do(() => window.sotto.restart())
    assert.notEqual(await p.do(look.ufrag), old)
    await watches(p, cleo)
    assert.equal((await p.do(look.state)).phase, 'open')
  }
})

test('what one deletes is gone, and the other is shown again', { timeout: 90_000 }, async () => {
  assert.deepEqual(await cleo.do(whip.end), [200, 404])
  for (const p of watchers) await watches(p, ann, [cleo])
  assert.deepEqual(await ann.do(whip.end), [200, 404])
  for (const p of watchers) await until(`${p.name} reads that nothing is shown`, async () => /Nothing is shown/.test(await p.do(look.words)))
})

test('a wrong token is refused', { timeout: 60_000 }, async () => {
  for (const p of [ann, cleo]) {
    const got = await p.do(whip.publish, { path: `/whip/${meeting.room}`, token: `${view}x` })
    assert.equal(got.status, 401)
    assert.equal(got.type, 'application/problem+json')
    const { code, status, title, detail } = JSON.parse(got.body)
    assert.deepEqual({ code, status, title }, { code: 'unauthorized', status: 401, title: 'Unauthorized' })
    assert.ok(detail)
    assert.equal((await p.do(whip.publish, { path: `/whip/${meeting.room}`, token: view })).status, 401, 'who may watch may not publish')
  }
  const eve = await cr.person('Eve', watchLink('wrong'), {})
  await phase(eve, 'failed')
  assert.match(await eve.do(look.words), /cannot be shown[\s\S]*whole link/)
  await eve.close()
})

test('layers from Chromium come apart, and who watches is switched', { timeout: 240_000 }, async () => {
  const got = await ann.do(whip.publish, { path: `/whip/${meeting.room}?name=Layers`, token: meeting.hostToken, rids: ['q', 'h', 'f'] })
  assert.equal(got.status, 201, got.body)
  const layers = async () => {
    const track = (await server.people(meeting.room)).Layers.tracks.find((t) => t.source === 'camera')
    return Object.fromEntries(track.layers.map((l) => [l.rid, l.packets]))
  }
  await until('three layers', async () => {
    const n = await layers()
    return ['q', 'h', 'f'].every((rid) => n[rid] > 20)
  })
  const width = async (p) => (await p.do(look.picture)).width
  for (const p of watchers) await until(`${p.name} sees the best`, async () => (await width(p)) === 960)
  for (const [rids, want] of [['q', 240], ['qh', 480], ['qhf', 960]]) {
    await ann.do(whip.only, [...rids])
    for (const p of watchers) {
      await until(`${p.name} sees it ${want} wide`, async () => (await width(p)) === want)
      await watches(p, ann)
    }
  }
})

test('the page is as it should be on a desktop, a phone and in both themes', { timeout: 120_000 }, async () => {
  const phone = { width: 390, height: 844 }
  const pages = await Promise.all([
    ['watch', { width: 1280, height: 800 }, 'dark', 'en'], ['watch-light', { width: 1280, height: 800 }, 'light', 'ja'],
    ['watch-phone', phone, 'light', 'en'], ['watch-phone-dark', phone, 'dark', 'ja'],
  ].map(async ([name, viewport, scheme, lang]) => {
    const p = await cr.person(name, watchLink().replace('lang=en', `lang=${lang}`), { viewport, scheme })
    let well = 0
    await until('it is seen well', async () => {
      const now = await p.do(look.picture)
      if (now.width === 960) well ||= now.frames
      return well && now.frames > well + 20
    })
    return { p, name, viewport, lang }
  }))
  for (const { p, name, viewport, lang } of pages) {
    assert.equal(await p.do(() => document.documentElement.lang), lang)
    const fits = await p.do(() => {
      const { left, right, top, bottom } = document.querySelector('.watch-stage').getBoundingClientRect()
      return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight && document.documentElement.scrollWidth <= innerWidth
    })
    assert.ok(fits, 'the stage is in the window')
    await p.page.mouse.move(viewport.width / 2, 200) // the buttons show
    await p.do(() => Promise.all(document.getAnimations().filter((a) => a instanceof CSSTransition).map((a) => a.finished)))
    await p.page.screenshot({ path: join(pictures, `${name}.png`) })
    await p.close()
  }
})

// simple-whip-client of Debian 12: webrtcbin of GStreamer makes the offer, libnice speaks ICE. As it comes it ends itself at once, because
// its HTTP library and the other version of it that libnice pulls in for UPnP do not bear each other: a UPnP that does nothing stands in.
test('GStreamer publishes, and browsers watch', { timeout: 120_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sotto-upnp-'))
  const source = ['thread_new', 'add_port', 'remove_port_local', 'get_type'].map((f) => `void *gupnp_simple_igd_${f}(void) { return 0; }`).join('\n')
  const compiled = spawnSync('gcc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', join(dir, 'libgupnp-igd-1.0.so.4')], { input: source, encoding: 'utf8' })
  assert.equal(compiled.status, 0, compiled.stderr)
  const client = spawn('whip-client', ['-u', `${server.url}/whip/${meeting.room}?name=GStreamer`, '-t', meeting.hostToken, '-o',
    '-A', 'audiotestsrc is-live=true freq=880 ! audioconvert ! audioresample ! queue ! opusenc ! rtpopuspay pt=100 ssrc=1 ! queue ! '
      + 'application/x-rtp,media=audio,encoding-name=OPUS,payload=100',
    '-V', 'videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=15/1 ! videoconvert ! queue ! '
      + 'vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay pt=96 ssrc=2 ! queue ! application/x-rtp,media=video,encoding-name=VP8,payload=96',
  ], { env: { ...process.env, LD_LIBRARY_PATH: dir } })
  let log = ''
  for (const out of [client.stdout, client.stderr]) out.on('data', (d) => { log += d })
  const gone = new Promise((resolve) => client.once('exit', resolve))
  try {
    for (const p of watchers) await watches(p, { name: 'GStreamer', tone: 880 }, [ann])
    client.kill('SIGINT') // at which it sends DELETE
    await gone
    for (const p of watchers) await watches(p, ann, [{ tone: 880 }])
    assert.equal((await server.people(meeting.room)).GStreamer, undefined)
  } catch (e) {
    throw new Error(`${e.message}\nwhip-client: ${log}`)
  } finally {
    client.kill('SIGKILL')
    rmSync(dir, { recursive: true })
  }
})

test('a lost path is found again, and the page says what it does', { timeout: 90_000 }, async () => {
  const rule = (verb) => {
    const run = spawnSync('iptables', [verb, 'INPUT', '-p', 'udp', '-j', 'DROP'], { encoding: 'utf8' })
    assert.equal(run.status, 0, run.stderr)
  }
  rule('-I')
  try {
    await phase(ben, 'restarting')
    assert.match(await ben.do(look.words), /Looking for another way/)
    await ben.page.screenshot({ path: join(pictures, 'watch-restarting.png') })
  } finally {
    rule('-D')
  }
  for (const p of watchers) {
    await phase(p, 'open')
    await watches(p, ann)
  }
})

test('the server is away for a while, and the page finds it again', { timeout: 120_000 }, async () => {
  await server.kill()
  for (const p of watchers) await until(`${p.name} reads that the server is away`, async () => /cannot be reached/.test(await p.do(look.words)))
  await server.start()
  for (const p of watchers) await phase(p, 'open')
  const got = await ann.do(whip.publish, { path: `/whip/${meeting.room}?name=Again`, token: meeting.hostToken })
  assert.equal(got.status, 201, got.body)
  for (const p of watchers) await watches(p, ann)
})

test('a host sees that it is watched, and ends it', { timeout: 90_000 }, async () => {
  const hal = await cr.person('Hal', `${server.url}/?lang=en`, { tone: 784, hue: 30 })
  await hal.do(([room, token]) => localStorage.setItem('sotto.hosts', JSON.stringify([[room, token]])), [meeting.room, meeting.hostToken])
  await hal.page.goto(link(server, meeting.room, 'Hal'))
  await until('Hal is in', async () => (await hal.state()).media === 'connected')
  const marked = () => hal.do(() => document.querySelector('.recording-mark.broadcast')?.checkVisibility() ?? false)
  await until('Hal sees the mark', marked)
  assert.match(await hal.do(() => document.querySelector('.recording[role=status]').innerText), /being watched/)
  assert.deepEqual(await hal.do(() => [...document.querySelectorAll('.tile')].map((t) => t.innerText.trim())).then((l) => l.filter((x) => /Broadcast/.test(x))), [])
  await hal.do(() => window.sotto.panel('people'))
  await hal.page.context().grantPermissions(['camera', 'microphone', 'clipboard-read', 'clipboard-write'])
  await hal.page.click('[data-action=watch-link]')
  const copied = await until('the link to watch', () => hal.do(() => navigator.clipboard.readText()))
  assert.match(copied, new RegExp(`^${server.url}/watch/${meeting.room}#[\\w.-]+$`))
  await hal.page.screenshot({ path: join(pictures, 'broadcast.png') })
  await hal.page.click('.people li:has(.broadcast) [data-action=remove]')
  await hal.page.click('[data-action=confirm]')
  for (const p of watchers) {
    await phase(p, 'ended')
    assert.match(await p.do(look.words), /has ended/)
  }
  await until('the mark goes', async () => !(await marked()))
  const late = await cr.person('Late', copied, {})
  await phase(late, 'ended')
  await Promise.all([hal.close(), late.close()])
})

test('where the browser keeps the sound off, one touch turns it on', { timeout: 180_000 }, async () => {
  await ff.close()
  ff = undefined
  const silent = await chromium({ silent: true })
  try {
    const { room, hostToken } = await ann.do(() => fetch('/api/v1/meetings', { method: 'POST' }).then((r) => r.json()))
    await ann.do(whip.end)
    const got = await ann.do(whip.publish, { path: `/whip/${room}`, token: hostToken })
    assert.equal(got.status, 201, got.body)
    const button = '[data-action=sound-on]'
    // Whatever a test looks at in a page counts as a touch. So it looks when the page has long begun to play.
    const visit = async (name) => {
      const camera = async () => (await server.people(room)).Live.tracks.find((t) => t.source === 'camera')
      const before = (await camera()).forwarded
      const p = await silent.person(name, `${server.url}/watch/${room}?lang=ja#${hostToken}`, {})
      await until(`${name} gets pictures`, async () => (await camera()).forwarded > before + 30)
      await p.page.waitForSelector(button, { state: 'visible' })
      return p
    }
    const playing = (p) => p.do(() => [...document.querySelectorAll('audio')].filter((a) => !a.paused && !a.muted).length)
    const mia = await visit('Mia')
    assert.equal(await mia.do((b) => document.querySelector(b).innerText.trim(), button), '音声を出す')
    await until('the picture moves meanwhile', async () => (await mia.do(look.picture)).shown)
    await mia.page.mouse.click(640, 300) // anywhere
    await mia.page.waitForSelector(button, { state: 'hidden' })
    await until('all voices play', async () => (await playing(mia)) === 4)
    await mia.page.keyboard.press('m')
    await until('none is heard', async () => (await playing(mia)) === 0)
    await mia.page.keyboard.press('m')
    await until('all are again', async () => (await playing(mia)) === 4)
    await mia.page.keyboard.press('f')
    await until('the picture fills the screen', () => mia.do(() => document.fullscreenElement?.className.includes('watch-stage')))
    await mia.close()

    const noa = await visit('Noa')
    await noa.page.keyboard.press('m')
    await noa.page.waitForSelector(button, { state: 'hidden' })
    await until('a key does it, too', async () => (await playing(noa)) === 4)
  } finally {
    await silent.close()
  }
})
