// A meeting in Chromium that its host has recorded: what everybody sees, and what is on disk afterwards.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium, link, pictures, Server, until } from './lab.mjs'

const server = new Server('[recording]\nenabled = true\n')
let cr
let room
let ann // the host
let ben
const mark = (p) => p.do(() => {
  const m = document.querySelector('.recording-mark')
  return m !== null && !m.hidden && m.getBoundingClientRect().width > 0
})
const said = (p) => p.do(() => document.querySelector('.recording[role=status][aria-live]')?.innerText.trim())

before(async () => {
  mkdirSync(pictures, { recursive: true })
  await server.start()
  cr = await chromium()
}, { timeout: 120_000 })

after(async () => {
  await cr?.close()
  await server.stop()
})

test('the host has the meeting recorded, and everybody sees it', { timeout: 120_000 }, async () => {
  ann = await cr.person('Ann', `${server.url}/?lang=en`, { tone: 523, hue: 200 })
  await ann.page.fill('input[autocomplete=name]', 'Ann')
  await ann.page.click('[data-action=new]')
  await until('the preview', async () => (await ann.state()).screen === 'preview')
  await until('the camera', () => ann.do(() => !!document.querySelector('video')?.videoWidth))
  await ann.page.click('[data-action=join]')
  await until('Ann is in', async () => (await ann.state()).media === 'connected')
  room = new URL(ann.page.url()).pathname.split('/').pop()
  ben = await cr.person('Ben', link(server, room, 'Ben'), { tone: 784, hue: 30 })
  for (const [p, o] of [[ann, ben], [ben, ann]]) await p.seesAndHears([o])
  assert.equal(await mark(ann) || await mark(ben), false)
  assert.equal(await ben.do(() => document.querySelector('[data-action=record]')?.hidden), true)

  await ann.page.click('[data-action=record]')
  for (const p of [ann, ben]) await until(`${p.name} sees the mark`, () => mark(p))
  assert.match(await said(ben), /being recorded/)
  await until('no notices are left', () => ann.do(() => window.sotto.state.notices.length === 0))
  await ann.page.screenshot({ path: join(pictures, 'recording.png') })
})

test('who comes later sees it, in Japanese too', { timeout: 60_000 }, async () => {
  const kei = await cr.person('Kei', link(server, room, 'Kei').replace('lang=en', 'lang=ja'), { tone: 659, hue: 90 })
  await until('Kei sees the mark', () => mark(kei))
  assert.match(await said(kei), /録画されています/)
  await kei.page.close()
})

test('the files play, and sound and picture lie together', { timeout: 90_000 }, async () => {
  await new Promise((resolve) => setTimeout(resolve, 6000)) // of meeting
  await ann.page.click('[data-action=record]')
  for (const p of [ann, ben]) await until(`${p.name} sees the mark go`, async () => !(await mark(p)))
  await until('Ben reads that it has ended', () => ben.do(() => window.sotto.state.notices.some((n) => /ended/.test(n.text))))
  const [id] = readdirSync(join(server.data, 'recordings'))
  const folder = join(server.data, 'recordings', id)
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))
  assert.equal(manifest.state, 'finished')
  for (const name of ['Ann', 'Ben']) {
    const tracks = manifest.tracks.filter((t) => t.name === name)
    assert.deepEqual(tracks.map((t) => t.source).sort(), ['camera', 'microphone'])
    for (const t of tracks) {
      assert.equal(t.sync, 'sender-reports')
      for (const f of t.files) {
        assert.equal(f.opaque, false)
        const out = spawnSync('ffprobe', ['-v', 'error', '-count_frames', '-show_streams', '-show_format', '-of', 'json', join(folder, f.name)], { encoding: 'utf8' })
        assert.equal(out.stderr, '', f.name)
        const { streams: [stream], format } = JSON.parse(out.stdout)
        assert.ok(Number(stream.nb_read_frames) > 20, `${f.name}: ${stream.nb_read_frames} frames`)
        assert.ok(Math.abs(Number(format.duration) - f.duration_seconds) < 0.1, `${f.name} lasts ${format.duration}, ${f.duration_seconds} by the manifest`)
      }
    }
    const ends = tracks.map((t) => t.offset_seconds + t.files[0].offset_seconds + t.files[0].duration_seconds)
    assert.ok(Math.abs(ends[0] - ends[1]) < 0.3, `${name}: tracks end ${ends[0]} and ${ends[1]} s into it`)
  }
})
