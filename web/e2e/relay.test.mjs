// People whose networks let little through: two Chromium in namespaces of their own and a Firefox here, with the server in
// a fourth, behind a firewall. First everything that is UDP is blocked but for the relay's port, then all but the one port of HTTPS: by the
// relay, without the Firefox, which takes no certificate for a relay but one of an authority that it knows, and by ICE over TCP.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium, firefox, link, root, Server, until } from './lab.mjs'

const address = '198.18.9.1' // the server's
const scratch = mkdtempSync(join(tmpdir(), 'sotto-relay-'))
const holders = []
let server
let files
let people = []

function run(command, ...args) {
  const done = spawnSync(command, args, { encoding: 'utf8' })
  assert.equal(done.status, 0, `${command} ${args.join(' ')}: ${done.stderr ?? done.error}`)
  return done.stdout
}

/** A network namespace, that lives as long as a process in it. */
async function namespace() {
  const holder = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' })
  holders.push(holder)
  const mine = readFileSync('/proc/self/net/dev', 'utf8')
  await until('a namespace', () => readFileSync(`/proc/${holder.pid}/net/dev`, 'utf8') !== mine && readFileSync(`/proc/${holder.pid}/comm`, 'utf8').trim() === 'sleep')
  const inside = (...args) => run('nsenter', '-t', String(holder.pid), '-n', ...args)
  inside('ip', 'link', 'set', 'lo', 'up')
  return { pid: holder.pid, inside }
}

const here = { pid: process.pid, inside: run }

/** Draws a line between a client's namespace and the server's. */
function line(client, far, n) {
  run('ip', 'link', 'add', `line${n}`, 'type', 'veth', 'peer', 'name', `peer${n}`)
  run('ip', 'link', 'set', `peer${n}`, 'netns', String(far.pid))
  if (client !== here) run('ip', 'link', 'set', `line${n}`, 'netns', String(client.pid))
  for (const [side, device, end] of [[far, `peer${n}`, 1], [client, `line${n}`, 2]]) {
    side.inside('ip', 'addr', 'add', `198.18.${10 + n}.${end}/24`, 'dev', device)
    side.inside('ip', 'link', 'set', device, 'up')
  }
  client.inside('ip', 'route', 'add', address, 'via', `198.18.${10 + n}.1`)
}

/** A program that runs in a namespace, with some arguments before its own. */
function within(ns, program, name, ...args) {
  const file = join(scratch, name)
  writeFileSync(file, `#!/bin/sh\nexec nsenter -t ${ns.pid} -n ${program} ${args.join(' ')} "$@"\n`)
  chmodSync(file, 0o755)
  return file
}

/** What gets through to the server from outside: nothing but this. */
function firewall(far, ...open) {
  far.inside('iptables', '-F', 'INPUT')
  far.inside('iptables', '-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT')
  for (const [protocol, port] of open) far.inside('iptables', '-A', 'INPUT', '-p', protocol, '--dport', String(port), '-j', 'ACCEPT')
  far.inside('iptables', '-A', 'INPUT', '-j', 'DROP')
}

/** By which way the media of a page goes: the type of its own candidate, and how it speaks to the relay, or to the server. */
const way = async (p) => p.do(async () => {
  const stats = await window.sotto.pc.getStats()
  for (const s of stats.values()) {
    if (s.type !== 'candidate-pair' || !(s.nominated || s.selected) || s.state !== 'succeeded') continue
    const local = stats.get(s.localCandidateId)
    return `${local.candidateType} ${local.relayProtocol ?? local.protocol} to ${stats.get(s.remoteCandidateId).port}`
  }
  return ''
})

let far
before(async () => {
  far = await namespace()
  far.inside('ip', 'addr', 'add', `${address}/32`, 'dev', 'lo')
  const homes = [here, await namespace(), await namespace()]
  homes.forEach((h, i) => line(h, far, i))
  // A certificate that the relay's clients take, for they ask nobody whether to.
  const [key, cert] = [join(scratch, 'key.pem'), join(scratch, 'cert.pem')]
  run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=sotto', '-addext', `subjectAltName=IP:${address}`, '-keyout', key, '-out', cert)
  const spki = createHash('sha256').update(new X509Certificate(readFileSync(cert)).publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
  files = `[tls]\ncert_file = "${cert}"\nkey_file = "${key}"\n`
  const trust = `--ignore-certificate-errors-spki-list=${spki}`
  people = [
    { name: 'Ann', tone: 523, hue: 200, browser: await chromium({ executable: within(homes[1], process.env.SOTTO_CHROMIUM ?? '/usr/bin/chromium', 'ann', trust) }) },
    { name: 'Ben', tone: 784, hue: 30, browser: await chromium({ executable: within(homes[2], process.env.SOTTO_CHROMIUM ?? '/usr/bin/chromium', 'ben', trust) }) },
    { name: 'Cleo', tone: 1047, hue: 120, browser: await firefox() },
  ]
}, { timeout: 120_000 })

after(async () => {
  await Promise.all(people.map((p) => p.browser.close()))
  await server?.stop()
  for (const h of holders) h.kill()
  rmSync(scratch, { recursive: true })
})

/** Starts the appliance behind the firewall, with some more configuration. */
async function serve(more) {
  await server?.stop()
  server = new Server(`[server]\nurl = "https://${address}:8443"\n${files}${more}`, {
    url: `https://${address}:8443`, binary: within(far, process.env.SOTTO_BIN ?? join(root, 'bin/sotto'), 'sotto'),
  })
  await server.start()
}

const relay = '[turn]\nenabled = true\n[media]\ntcp = false\n'
for (const [title, config, names, open, want] of [
  ['two Chromium and a Firefox meet through the UDP port of the relay alone', relay, ['Ann', 'Ben', 'Cleo'], [['tcp', 8443], ['udp', 3478]], /^relay udp to 8443$/],
  ['two Chromium meet through the port of HTTPS alone, by the relay', relay, ['Ann', 'Ben'], [['tcp', 8443]], /^relay tls to 8443$/],
  ['two Chromium and a Firefox meet through the port of HTTPS alone, by ICE over TCP', '', ['Ann', 'Ben', 'Cleo'], [['tcp', 8443]], /^(host|prflx) tcp to 8443$/],
]) {
  test(title, { timeout: 180_000 }, async () => {
    firewall(far, ...open)
    if (server?.more !== config) await serve(config)
    server.more = config
    const who = people.filter((p) => names.includes(p.name))
    const room = JSON.parse(run(server.binary, 'ctl', 'conferences', 'open', '-json', '-data', server.data)).room
    const guests = []
    for (const p of who) guests.push(await p.browser.person(p.name, link(server, room, p.name), { tone: p.tone, hue: p.hue, width: 480, height: 270 }))
    for (const p of guests) await until(`${p.name} is in`, async () => (await p.state()).media === 'connected')
    for (const p of guests) await p.seesAndHears(guests.filter((o) => o !== p))
    for (const p of guests) assert.match(await way(p), want, p.name)
    for (const p of guests) await p.close()
  })
}
