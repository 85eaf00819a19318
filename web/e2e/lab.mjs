// What the browser tests share: the server as a child, the browsers, made-up cameras and microphones, and looks into a page.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))
/** A run leaves the tree as it was; `SOTTO_PICTURES=docs/img make e2e` takes those of the documentation anew. */
export const pictures = join(root, process.env.SOTTO_PICTURES ?? 'web/e2e/out')
const binary = process.env.SOTTO_BIN ?? join(root, 'bin/sotto')

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Polls f until it returns something true. */
export async function until(what, f, patience = 45_000) {
  const end = Date.now() + patience
  let last
  for (;;) {
    try {
      const value = await f()
      if (value) return value
      last = value
    } catch (e) {
      last = e
    }
    assert.ok(Date.now() < end, `${what}: not within ${patience / 1000} s; last: ${last?.stack ?? JSON.stringify(last)}`)
    await pause(100)
  }
}

/** The appliance, with its data in a folder that outlives a kill. */
export class Server {
  constructor(config = '', { url = 'https://localhost:8443', binary: program = binary } = {}) {
    this.data = mkdtempSync(join(tmpdir(), 'sotto-e2e-'))
    this.config = join(this.data, 'sotto.toml')
    writeFileSync(this.config, config)
    this.url = url
    this.binary = program
  }

  async start() {
    this.child = spawn(this.binary, ['serve', '-config', this.config, '-data', this.data], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.log = ''
    this.gone = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.stderr.on('data', (d) => { this.log += d })
    await until('the server serves', () => {
      assert.equal(this.child.exitCode, null, this.log)
      return this.log.includes('msg=serving')
    })
    const node = JSON.parse(readFileSync(join(this.data, 'node.json'), 'utf8'))
    this.admin = node.admin
    this.token = readFileSync(join(this.data, 'admin/token'), 'utf8').trim()
  }

  /** As a crash would end it. */
  async kill() {
    this.child.kill('SIGKILL')
    await this.gone
  }

  async stop() {
    this.child.kill('SIGTERM')
    await this.gone
    rmSync(this.data, { recursive: true })
  }

  /** Asks the admin API. */
  async get(path) {
    return JSON.parse(await this.text(path))
  }

  /** The value of a metric. */
  async metric(name) {
    const line = (await this.text('/metrics')).split('\n').find((l) => l.startsWith(`${name} `))
    assert.ok(line, `there is no metric ${name}`)
    return Number(line.split(' ')[1])
  }

  text(path) {
    return new Promise((resolve, reject) => {
      const r = request(this.admin + path, { headers: { authorization: `Bearer ${this.token}` }, rejectUnauthorized: false }, (res) => {
        let text = ''
        res.on('data', (d) => { text += d })
        res.on('end', () => (res.statusCode === 200 ? resolve(text) : reject(new Error(`${path}: ${res.statusCode} ${text}`))))
      })
      r.on('error', reject)
      r.end()
    })
  }

  /** The participants of a room by their names. */
  async people(room) {
    const { participants } = await this.get(`/admin/v1/conferences/${room}/participants`)
    return Object.fromEntries(participants.map((p) => [p.name, p]))
  }
}

/**
 * A camera that shows a moving picture and a microphone that hums at one frequency, in place of the browser's own; counts offers.
 * With via, "ADDRESS PORT", all media goes there instead of to the server's own addresses.
 */
function madeUp({ tone, hue, width, height, fps = 12, via }) {
  window.seen = { offers: 0 }
  window.lab = {
    /** A fingerprint of the picture that a video element shows now. */
    hash(video) {
      const c = new OffscreenCanvas(64, 36).getContext('2d', { willReadFrequently: true })
      c.drawImage(video, 0, 0, 64, 36)
      let hash = 0
      for (const v of c.getImageData(0, 0, 64, 36).data) hash = (hash * 31 + v) | 0
      return hash
    },
    /** The loudest frequency of a stream; 0 if it is silent. */
    async loudest(stream) {
      window.ears ??= new AudioContext()
      await window.ears.resume()
      const source = window.ears.createMediaStreamSource(stream)
      const analyser = window.ears.createAnalyser()
      analyser.fftSize = 8192
      analyser.smoothingTimeConstant = 0
      source.connect(analyser)
      await new Promise((r) => setTimeout(r, 400))
      const bins = new Float32Array(analyser.frequencyBinCount)
      analyser.getFloatFrequencyData(bins)
      source.disconnect()
      const best = bins.reduce((b, v, i) => (i && v > bins[b] ? i : b), 0)
      return bins[best] > -60 ? Math.round((best * window.ears.sampleRate) / analyser.fftSize) : 0
    },
  }
  const moving = (w, h, label) => {
    const canvas = document.createElement('canvas')
    canvas.width = w
    canvas.height = h
    const c = canvas.getContext('2d')
    let n = 0
    const circle = (x, y, r) => {
      c.beginPath()
      c.arc(x, y, r, 0, 7)
      c.fill()
    }
    const oval = (x, y, rx, ry) => {
      c.beginPath()
      c.ellipse(x, y, rx, ry, 0, 0, 7)
      c.fill()
    }
    // Somebody in a room, who talks and sways, and a cloud before the window.
    const person = () => {
      const t = n / 15
      const wall = c.createLinearGradient(0, 0, w, h)
      wall.addColorStop(0, `hsl(${hue} 36% 76%)`)
      wall.addColorStop(1, `hsl(${hue + 25} 32% 50%)`)
      c.fillStyle = wall
      c.fillRect(0, 0, w, h)
      c.save()
      c.beginPath()
      c.rect(w * 0.07, h * 0.1, w * 0.24, h * 0.42)
      c.clip()
      c.fillStyle = `hsl(${hue} 45% 88%)`
      c.fillRect(0, 0, w, h)
      c.fillStyle = '#fff'
      const cloud = w * (0.07 + 0.24 * (((t * 0.1) % 1.6) - 0.4))
      for (const [dx, r] of [[0, 0.035], [0.04, 0.05], [0.08, 0.032]]) circle(cloud + dx * w, h * 0.3, r * w)
      c.restore()
      c.fillStyle = `hsl(${hue + 20} 30% 38%)`
      c.fillRect(w * 0.7, h * 0.3, w * 0.24, h * 0.025)
      for (let i = 0; i < 6; i++) {
        c.fillStyle = `hsl(${hue + i * 50} 40% ${38 + (i % 3) * 9}%)`
        c.fillRect(w * (0.715 + i * 0.03), h * (0.16 + (i % 2) * 0.03), w * 0.023, h * (0.14 - (i % 2) * 0.03))
      }
      const x = w * (0.5 + 0.03 * Math.sin(t * 1.3))
      c.fillStyle = `hsl(${hue + 190} 42% 34%)`
      oval(x, h * 1.06, w * 0.24, h * 0.4)
      c.fillStyle = '#c98f6b'
      c.fillRect(x - w * 0.035, h * 0.58, w * 0.07, h * 0.13)
      c.fillStyle = `hsl(${hue + 20} 22% 17%)`
      circle(x, h * 0.4, h * 0.205)
      c.fillStyle = '#dba57f'
      oval(x, h * 0.45, h * 0.155, h * 0.19)
      c.fillStyle = '#2b2320'
      for (const side of [-1, 1]) oval(x + side * h * 0.06, h * 0.43, h * 0.015, h * (n % 60 < 3 ? 0.003 : 0.018))
      c.fillStyle = '#8c3b35'
      oval(x, h * 0.545, h * 0.04, h * (0.008 + 0.014 * Math.abs(Math.sin(t * 5))))
    }
    const slide = () => {
      c.fillStyle = '#fbfaf7'
      c.fillRect(0, 0, w, h)
      c.fillStyle = '#20303c'
      c.font = `600 ${Math.round(h * 0.075)}px sans-serif`
      c.fillText('Packets per second', w * 0.07, h * 0.16)
      for (let i = 0; i < 12; i++) {
        const v = 0.25 + 0.2 * Math.sin(i * 0.7 + n / 12) + 0.02 * i
        c.fillStyle = i === 11 ? '#c2502f' : '#5f8fa3'
        c.fillRect(w * (0.08 + i * 0.07), h * (0.88 - v), w * 0.05, h * v)
      }
    }
    const draw = () => {
      n += 12 / fps
      window.seen.draws?.push(performance.timeOrigin + performance.now())
      if (label === 'screen') slide()
      else person()
    }
    draw()
    setInterval(draw, 1000 / fps)
    return canvas.captureStream(fps)
  }
  const hum = () => {
    const context = new AudioContext()
    const oscillator = context.createOscillator()
    const gain = context.createGain()
    const out = context.createMediaStreamDestination()
    oscillator.frequency.value = tone
    gain.gain.value = 0.4
    oscillator.connect(gain).connect(out)
    oscillator.start()
    void context.resume()
    return out.stream
  }
  const devices = navigator.mediaDevices
  devices.getUserMedia = async (want) => {
    const out = new MediaStream()
    if (want.audio) hum().getAudioTracks().forEach((t) => out.addTrack(t))
    if (want.video) moving(width, height, '').getVideoTracks().forEach((t) => out.addTrack(t))
    return out
  }
  devices.getDisplayMedia = async () => moving(1280, 720, 'screen')
  devices.enumerateDevices = async () => [
    { kind: 'audioinput', deviceId: 'mic', groupId: '1', label: 'Microphone', toJSON() {} },
    { kind: 'audiooutput', deviceId: 'out', groupId: '3', label: 'Speakers', toJSON() {} },
    { kind: 'videoinput', deviceId: 'cam', groupId: '2', label: 'Camera', toJSON() {} },
    { kind: 'audiooutput', deviceId: 'out', groupId: '1', label: 'Speakers', toJSON() {} },
  ]
  // One candidate for each section, which is there and nowhere else.
  const elsewhere = (sdp) => {
    let there = false
    return sdp.split('\r\n').flatMap((line) => {
      if (line.startsWith('m=')) there = false
      const candidate = /^(a=candidate:\S+ 1 udp \d+) \S+ \d+ (.*)$/i.exec(line)
      if (!candidate) return line.startsWith('a=candidate:') ? [] : [line]
      if (there) return []
      there = true
      return [`${candidate[1]} ${via} ${candidate[2]}`]
    }).join('\r\n')
  }
  const set = RTCPeerConnection.prototype.setRemoteDescription
  RTCPeerConnection.prototype.setRemoteDescription = function (d) {
    window.seen.offers++
    return set.call(this, via ? { type: d.type, sdp: elsewhere(d.sdp) } : d)
  }
}

const look = {
  /** What plays: by participant and source, how many frames were decoded and which codec. */
  async received() {
    const out = {}
    for (const slot of Object.values(window.sotto.slots)) {
      if (!slot.receiver) continue
      const stats = await window.sotto.pc.getReceivers().find((r) => r.track === slot.receiver || r === slot.receiver)?.getStats()
      if (!stats) continue
      const name = window.sotto.roster.find((p) => p.id === slot.participant)?.name
      for (const s of stats.values()) {
        if (s.type !== 'inbound-rtp') continue
        const codec = stats.get(s.codecId)?.mimeType?.split('/')[1]?.toLowerCase() ?? ''
        out[`${name} ${slot.source}`] = { frames: s.framesDecoded ?? 0, packets: s.packetsReceived, codec, width: s.frameWidth ?? 0 }
      }
    }
    return out
  },
  /** A fingerprint of the picture that each participant's tile shows now. */
  hashes() {
    const out = {}
    for (const p of window.sotto.roster) {
      const video = document.querySelector(`.tile[data-participant="${p.id}"][data-kind="person"] video`)
      if (!video?.videoWidth) continue
      out[p.name] = window.lab.hash(video)
    }
    return out
  },
  /** The loudest frequency of each participant's microphone. */
  async tones() {
    const out = {}
    for (const slot of Object.values(window.sotto.slots)) {
      if (slot.source !== 'microphone' || !slot.receiver) continue
      const track = slot.receiver.track ?? slot.receiver
      const name = window.sotto.roster.find((p) => p.id === slot.participant)?.name
      out[name] = await window.lab.loudest(new MediaStream([track]))
    }
    return out
  },
  /** The cipher of the one transport, where the browser tells. */
  async cipher() {
    for (const s of (await window.sotto.pc.getStats()).values()) if (s.type === 'transport' && s.srtpCipher) return s.srtpCipher
    return ''
  },
  state() {
    const { screen, me, role, over, link, media, chat } = window.sotto.state
    return { screen, me, role, over, link, media, chat: chat.map((l) => `${l.name}: ${l.text}`), offers: window.seen.offers, log: window.sotto.log }
  },
  ufrag: () => /a=ice-ufrag:(\S+)/.exec(window.sotto.pc.remoteDescription.sdp)[1],
  muted: (name) => window.sotto.roster.find((p) => p.name === name)?.tracks.find((t) => t.source === 'microphone')?.muted,
  names: () => window.sotto.roster.map((p) => p.name).sort(),
}

/** A person: a page of a browser with what a test wants to know of it. */
export class Person {
  constructor(name, page, close) {
    Object.assign(this, { name, page, close })
    for (const [verb, f] of Object.entries(look)) this[verb] = (a) => page.evaluate(f, a)
  }

  do(f, a) { return this.page.evaluate(f, a) }

  /** Waits until the person sees the pictures of all of names move and hears their tones. */
  async seesAndHears(others) {
    for (const o of others) {
      let frames
      await until(`${this.name} sees ${o.name} move`, async () => {
        const now = { hash: (await this.hashes())[o.name], frames: (await this.received())[`${o.name} camera`]?.frames ?? 0 }
        const before = frames
        if (now.hash) frames = now
        return before && now.hash && before.hash !== now.hash && now.frames > before.frames
      })
    }
    let heard
    await until(`${this.name} hears ${others.map((o) => o.name)}`, async () => {
      heard = await this.tones()
      return others.every((o) => Math.abs((heard[o.name] ?? 0) - o.tone) <= 12)
    }).catch((e) => { throw new Error(`${e.message} heard: ${JSON.stringify(heard)}`) })
  }
}

const chromiumFlags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
  '--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter,Translate',
]

/** With silent, pages make no sound until somebody touches them, as for people. */
export async function chromium({ silent = false, executable = process.env.SOTTO_CHROMIUM ?? '/usr/bin/chromium' } = {}) {
  const { chromium: launcher } = await import('playwright-core')
  const browser = await launcher.launch({
    executablePath: executable, ignoreDefaultArgs: ['--mute-audio'],
    args: silent ? chromiumFlags.filter((f) => !f.startsWith('--autoplay-policy')) : chromiumFlags,
  })
  return {
    async person(name, url, { viewport = { width: 1280, height: 800 }, locale = 'en-US', scheme = 'dark', ...fake }) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, permissions: ['camera', 'microphone'], viewport, locale, colorScheme: scheme })
      const page = await context.newPage()
      await page.addInitScript(madeUp, { width: 960, height: 540, ...fake })
      await page.goto(url)
      return Object.assign(new Person(name, page, () => context.close()), fake)
    },
    close: () => browser.close(),
  }
}

export async function firefox() {
  const { default: puppeteer } = await import('puppeteer-core')
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.SOTTO_FIREFOX ?? '/usr/bin/firefox-esr', headless: true, acceptInsecureCerts: true,
    extraPrefsFirefox: {
      'media.cubeb.force_mock_context': true, // without a sound card an AudioContext never starts
      'media.navigator.streams.fake': true, 'media.navigator.permission.disabled': true, 'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0, 'media.peerconnection.ice.obfuscate_host_addresses': false, 'media.gmp-manager.url': '',
      'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false, 'app.update.enabled': false,
      'services.settings.server': 'http://127.0.0.1:9/', 'toolkit.telemetry.enabled': false, 'intl.accept_languages': 'en-US',
    },
    protocolTimeout: 120_000,
  })
  return {
    async person(name, url, { viewport = { width: 1280, height: 800 }, ...fake }) {
      const page = await browser.newPage()
      await page.setViewport(viewport)
      await page.evaluateOnNewDocument(madeUp, { width: 960, height: 540, ...fake })
      await page.goto(url)
      return Object.assign(new Person(name, page, () => page.close()), fake)
    },
    close: () => browser.close(),
  }
}

/** The link by which a person comes straight into a meeting. */
export const link = (server, room, name, more = '') => `${server.url}/m/${room}?name=${name}&autojoin=1&lang=en${more}`
