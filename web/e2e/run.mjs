// Runs the browser tests in a network namespace of their own: nothing that a browser, the server or a test sends leaves the machine,
// and the server has an address that is not loopback, which Firefox needs. The namespace has no name: it ends with its last process,
// however that ends.
//
//     node run.mjs            everything
//     node run.mjs recovery   the areas whose name contains this
import { spawnSync } from 'node:child_process'
import { networkInterfaces } from 'node:os'
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const only = process.argv[2] ?? ''
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

const inside = Object.values(networkInterfaces()).flat().some((a) => a.address === address)
if (!inside) {
  // Who is not root becomes it in a user namespace, where the kernel allows that.
  const privileges = process.getuid() === 0 ? [] : ['--user', '--map-root-user']
  const again = spawnSync('unshare', [...privileges, '--net', 'sh', '-c', network, process.execPath, ...process.argv.slice(1)], { stdio: 'inherit' })
  if (again.error) console.error(`e2e: no network namespace: ${again.error.message}`)
  process.exit(again.status ?? 1)
}

const files = ['suite.mjs', 'handover.test.mjs'].filter((f) => !only || (f === 'handover.test.mjs') === 'handover'.includes(only))
let status = 0
for (const file of files) {
  const run = spawnSync(process.execPath, ['--test', '--test-reporter=spec', here(file)], { stdio: 'inherit', env: { ...process.env, SOTTO_E2E: only } })
  status ||= run.status ?? 1
}
process.exit(status)
