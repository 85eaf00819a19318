// Data channels as an embedder of the server uses them: pages with nothing but WebSocket and RTCPeerConnection, in Chromium and Firefox.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { chromium, firefox, Server, until } from './lab.mjs'

const server = new Server('')
let cr
let fx
let room

before(async () => {
  await server.start()
  cr = await chromium()
  fx = await firefox()
}, { timeout: 120_000 })

after(async () => {
  await cr?.close()
  await fx?.close()
  await server.stop()
})

/** A client in forty lines. What it receives is in window.got; what comes on the channel "ping" goes back on the channel "pong". */
async function embed({ room, name }) {
  const pc = new RTCPeerConnection()
  Object.assign(window, { pc, got: [], mine: {}, ended: [], sections: [] })
  const reply = await (await fetch(`/api/v1/meetings/${room}/token`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).json()
  const ws = new WebSocket(`wss://${location.host}/ws`, 'sotto.v1')
  let id = 0
  const ask = (type, fields) => ws.send(JSON.stringify({ id: ++id, type, ...fields }))
  pc.ondatachannel = ({ channel }) => {
    channel.binaryType = 'arraybuffer'
    channel.onmessage = ({ data }) => {
      if (channel.label === 'ping') window.mine.pong?.send(data)
      window.got.push({ from: channel.protocol, label: channel.label, ordered: channel.ordered, data: typeof data === 'string' ? data : data.byteLength, at: performance.now() })
    }
    channel.onclose = () => window.ended.push(channel.label)
  }
  window.channel = (label, init) => new Promise((resolve) => {
    const c = pc.createDataChannel(label, init)
    c.onopen = () => {
      window.mine[label] = c
      resolve()
    }
  })
  const me = await new Promise((resolve, reject) => {
    ws.onopen = () => ask('join', { version: 1, token: reply.token, name, data: true })
    ws.onmessage = async ({ data }) => {
      const m = JSON.parse(data)
      if (m.type === 'error') reject(new Error(data))
      if (m.type === 'join.ok') resolve(m.participant)
      if (m.type === 'offer') {
        window.sections = m.sections
        await pc.setRemoteDescription({ type: 'offer', sdp: m.sdp })
        await pc.setLocalDescription()
        ask('answer', { number: m.number, sdp: pc.localDescription.sdp })
      }
    }
  })
  return me
}

const join = async (browser, name) => {
  const p = await browser.person(name, `${server.url}/api/v1/nothing`, { tone: 400, hue: 10 })
  p.id = await p.do(embed, { room, name })
  return p
}

// Row C6.
test('two pages exchange messages', { timeout: 120_000 }, async () => {
  const opener = await cr.person('opener', `${server.url}/api/v1/nothing`, { tone: 400, hue: 10 })
  room = await opener.do(async () => (await (await fetch('/api/v1/meetings', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}',
  })).json()).room)
  await opener.close()
  const ann = await join(cr, 'Ann')
  const ben = await join(fx, 'Ben')
  assert.equal(await ann.do(() => window.sections.filter((s) => s.data).length), 1)
  await until('both have their association', async () => await server.metric('sotto_sfu_data_members') === 2)
  for (const [from, to] of [[ann, ben], [ben, ann]]) {
    await from.do(() => window.channel('chat'))
    await from.do(() => window.channel('cursor', { ordered: false, maxRetransmits: 0 }))
    await from.do(() => {
      window.mine.chat.send('hello')
      window.mine.chat.send(new Uint8Array(200_000))
      window.mine.cursor.send('1,2')
    })
    await until(`${to.name} has three messages`, () => to.do(() => window.got.length === 3))
    const got = await to.do(() => window.got)
    const chat = got.filter((m) => m.label === 'chat')
    assert.deepEqual(chat.map((m) => [m.from, m.ordered, m.data]), [[from.id, true, 'hello'], [from.id, true, 200_000]])
    assert.deepEqual(got.filter((m) => m.label === 'cursor').map((m) => [m.from, m.ordered, m.data]), [[from.id, false, '1,2']])
  }
  // There and back through the server, one after the other.
  await ben.do(() => window.channel('pong'))
  const trips = await ann.do(async () => {
    await window.channel('ping')
    const out = []
    for (let i = 0; i < 60; i++) {
      const text = `${i}`
      const sent = performance.now()
      window.mine.ping.send(text)
      for (;;) {
        const back = window.got.find((m) => m.label === 'pong' && m.data === text)
        if (back) {
          out.push(back.at - sent)
          break
        }
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
    return out.sort((a, b) => a - b)
  })
  console.log(`round trip Chromium - server - Firefox and back: median ${trips[30].toFixed(1)} ms, 95 % ${trips[57].toFixed(1)} ms`)
  assert.ok(trips[30] < 250, `median ${trips[30]} ms`)
  await ann.do(() => window.mine.chat.close())
  await until('Ben hears of the close', () => ben.do(() => window.ended.includes('chat')))
})
