// Hand-over by nomination, in the middle of a call (decision 3): a Chromium, a Firefox and a pion client are in one conference, all
// of them publish and receive. Then the conference goes to another media node on another port, once as planned and once because the
// first node died, and nobody is told anything: no offer, no message. The gap that each of them sees is printed.
//
// The server is bench/failover/rig. It and the browsers run in a network namespace of their own, because Firefox needs a server
// address that is not loopback.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const self = fileURLToPath(import.meta.url)
const root = fileURLToPath(new URL('../..', import.meta.url))
const address = '198.18.0.1'

const network = `
set -e
ip link set lo up
ip link add sotto0 type veth peer name sotto1
ip addr add ${address}/24 dev sotto0
ip link set sotto0 up
ip link set sotto1 up
ip route add default dev sotto0
exec "$0" "$@"`

const there = Object.values(networkInterfaces()).flat().some((a) => a.address === address)
if (there) {
  tests()
} else {
  test('hand-over in a namespace of its own', { timeout: 300_000 }, () => {
    const env = { ...process.env }
    delete env.NODE_TEST_CONTEXT // the inner run reports for itself
    const inner = spawnSync('unshare', ['--net', 'sh', '-c', network, process.execPath, '--test', '--test-reporter=spec', self], {
      env, stdio: 'inherit',
    })
    assert.equal(inner.status, 0)
  })
}

/** The longest of the gaps that overlap a time; 0 if there is none. */
const longest = (gaps, from, to) => Math.max(0, ...gaps.filter((g) => g.to >= from && g.from <= to).map((g) => g.to - g.from))

/** How long after a hand-over a gap is still put down to it. */
const aftermath = 300

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function until(what, f, patience = 40_000) {
  const end = Date.now() + patience
  for (;;) {
    const value = await f()
    if (value) return value
    assert.ok(Date.now() < end, `${what}: not within ${patience / 1000} s`)
    await sleep(50)
  }
}

/** Starts the rig; stop ends it. */
async function startRig(binary) {
  const child = spawn(binary, ['-address', address], { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  const info = await new Promise((resolve, reject) => {
    let text = ''
    child.stdout.on('data', (d) => {
      text += d
      if (text.includes('\n')) resolve(JSON.parse(text))
    })
    child.once('exit', (code) => reject(new Error(`the rig ended with ${code}`)))
    child.once('error', reject)
  })
  const port = (a) => Number(a.slice(a.lastIndexOf(':') + 1))
  return {
    ...info,
    firstPort: port(info.first),
    secondPort: port(info.second),
    async call(method, path) {
      const reply = await fetch(info.url + path, { method })
      const body = await reply.json()
      assert.ok(reply.ok, `${path}: ${body.error}`)
      return body
    },
    async stop() {
      child.kill('SIGTERM')
      await gone
    },
  }
}

async function startChromium() {
  const { chromium } = await import('playwright-core')
  const browser = await chromium.launch({
    executablePath: process.env.SOTTO_CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required',
      '--disable-features=WebRtcHideLocalIpsWithMdns',
    ],
  })
  return {
    name: 'chromium',
    async page(url) {
      const context = await browser.newContext({ permissions: ['camera', 'microphone'] })
      const page = await context.newPage()
      await page.goto(url)
      return { evaluate: (f, a) => page.evaluate(f, a), close: () => context.close() }
    },
    close: () => browser.close(),
  }
}

async function startFirefox() {
  const { default: puppeteer } = await import('puppeteer-core')
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: process.env.SOTTO_FIREFOX ?? '/usr/bin/firefox-esr', headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true, 'media.navigator.permission.disabled': true, 'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0, 'media.peerconnection.ice.obfuscate_host_addresses': false,
      'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false,
    },
  })
  return {
    name: 'firefox',
    async page(url) {
      const page = await browser.newPage()
      await page.goto(url)
      return { evaluate: (f, a) => page.evaluate(f, a), close: () => page.close() }
    },
    close: () => browser.close(),
  }
}

function tests() {
  let browsers = []
  let scratch
  let binary = process.env.SOTTO_RIG

  before(async () => {
    if (!binary) {
      scratch = mkdtempSync(join(tmpdir(), 'sotto-rig-'))
      binary = join(scratch, 'rig')
      const built = spawnSync('go', ['build', '-o', binary, './bench/failover/rig'], { cwd: root, stdio: 'inherit' })
      assert.equal(built.status, 0, 'the rig does not build')
    }
    browsers = await Promise.all([startChromium(), startFirefox()])
  }, { timeout: 120_000 })

  after(async () => {
    await Promise.all(browsers.map((b) => b.close()))
    if (scratch) rmSync(scratch, { recursive: true })
  })

  test('a planned hand-over moves Chromium, Firefox and pion', { timeout: 120_000 }, () => handOver('planned'))
  test('a node that dies is replaced in Chromium, Firefox and pion', { timeout: 120_000 }, () => handOver('crash'))

  async function handOver(mode) {
    const rig = await startRig(binary)
    const people = []
    try {
      for (const b of browsers) {
        const page = await b.page(`${rig.url}/?room=${rig.room}&name=${b.name}`)
        people.push({ name: b.name, page, figures: () => page.evaluate(() => window.call.figures()) })
      }
      // Each browser sees the other; only then comes pion, whose picture is one that it got from them.
      for (const p of people) await flowing(p, 2)
      await rig.call('POST', '/client?name=pion')
      for (const p of people) await flowing(p, 4)
      await until('pion receives', async () => {
        const { pion } = await rig.call('GET', '/client')
        return pion.length === 4 && pion.every((s) => s.packets > 20)
      })
      for (const p of people) {
        await until(`${p.name} is on the first node`, async () => (await p.figures()).port === rig.firstPort)
        p.before = await p.figures()
        assert.equal(p.before.state, 'stable')
      }
      const offers = await rig.call('GET', '/offers')
      await rig.call('GET', '/client') // begins its measurement anew

      const measured = people.map((p) => p.page.evaluate((ms) => window.call.measure(ms), 5000))
      await sleep(1500)
      const began = Date.now()
      const report = await rig.call('POST', `/handover?mode=${mode}`)
      assert.equal(report.sessions, 3)
      const ended = Date.now() + aftermath
      const gaps = await Promise.all(measured)
      const { pion } = await rig.call('GET', '/client')

      console.log(`${mode}: activated ${(report.took_ns / 1e6).toFixed(2)} ms after the end of the first node, by a copy ${(report.age_ns / 1e6).toFixed(0)} ms old`)
      const gap = (i, kind) => `${longest(gaps[i][kind], began, ended).toFixed(0)} ms (before: ${longest(gaps[i][kind], 0, began - 1).toFixed(0)} ms)`
      for (const [i, p] of people.entries()) {
        const f = await p.figures()
        const b = p.before
        console.log(
          `${mode} ${p.name}: gap audio ${gap(i, 'audio')}, video ${gap(i, 'video')} (polled ${gaps[i].polls} times, ` +
          `${gaps[i].slowest.toFixed(0)} ms apart at most); lost audio ${f.audioLost - b.audioLost}, video ${f.lost - b.lost}; NACKs sent ${f.nacks - b.nacks}, ` +
          `repaired ${f.repaired - b.repaired}; PLI ${f.plis - b.plis}, key frames ${f.keyFrames - b.keyFrames}; ` +
          `sent again as a publisher ${f.answered - b.answered}`)
        assert.equal(f.port, rig.secondPort, `${p.name} is on the second node`)
        assert.equal(f.offers, b.offers, `${p.name} got no offer`)
        assert.equal(f.negotiations, b.negotiations, `${p.name} never left the stable state`)
        assert.equal(f.state, 'stable')
        assert.equal(f.connection, 'connected')
        assert.ok(f.sent > b.sent, `${p.name} sends`)
        // The same streams go on; how fast is a matter of how busy the machine is.
        await until(`${p.name}: every stream goes on`, async () => {
          const now = (await p.figures()).perStream
          return Object.entries(f.perStream).every(([ssrc, s]) => now[ssrc].packets > s.packets + 20 && (s.kind !== 'video' || now[ssrc].frames > s.frames + 10))
        })
        assert.deepEqual(Object.keys(f.perStream).sort(), Object.keys(b.perStream).sort(), `${p.name} has the streams it had`)
        if (mode === 'planned') {
          assert.ok(f.lost - b.lost <= 5, `${p.name}: ${f.lost - b.lost} packets of pictures lost`)
          assert.ok(f.audioLost - b.audioLost <= 10, `${p.name}: ${f.audioLost - b.audioLost} packets of sound lost`)
        }
        assert.equal(await p.page.evaluate(() => window.call.error), '')
      }
      for (const s of pion) {
        console.log(`${mode} pion: ${s.source} gap ${(s.moved_ns / 1e6).toFixed(1)} ms (in all: ${(s.gap_ns / 1e6).toFixed(0)} ms), missing ${s.missing}, repaired ${s.repaired}, largest step ${s.jump}`)
        assert.equal(s.from, rig.second, 'pion is on the second node')
        if (s.source === 'camera' && mode === 'planned') assert.equal(s.missing, 0, 'no picture is missing')
      }
      assert.deepEqual(await rig.call('GET', '/offers'), offers, 'nobody got an offer')
      await stillGrowing(people)
    } catch (e) {
      for (const p of people) console.log(p.name, JSON.stringify(await p.page.evaluate(async () => ({ error: window.call.error, media: window.call.media, states: window.call.states, selected: window.call.selected, ...(await window.call.figures()) }))))
      throw e
    } finally {
      for (const p of people) await p.page.close()
      await rig.stop()
    }
  }

  /** Waits until so many streams come, and the pictures among them are decoded. */
  async function flowing(p, streams) {
    await until(`${p.name} receives ${streams} streams`, async () => {
      const f = await p.figures()
      const all = Object.values(f.perStream)
      return all.length === streams && all.every((s) => s.packets > 20 && (s.kind === 'audio' || s.frames > 5))
    })
  }

  async function stillGrowing(people) {
    for (const p of people) {
      const b = await p.figures()
      await until(`${p.name} still receives`, async () => {
        const f = await p.figures()
        return f.audio > b.audio + 20 && f.frames > b.frames + 10
      })
    }
  }
}
