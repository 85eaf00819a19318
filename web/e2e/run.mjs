// Runs the browser tests in a network namespace of their own: nothing they send can leave the machine, and the server has an
// address that is not loopback, which Firefox needs. The namespace has no name: it ends with its last process. Needs root.
//
//     node run.mjs                  everything
//     node run.mjs meeting.test.mjs some of the files
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const files = process.argv.length > 2 ? process.argv.slice(2) : ['meeting.test.mjs', 'codecs.test.mjs', 'layers.test.mjs', 'svc.test.mjs',
  'handover.test.mjs', 'recording.test.mjs', 'whip.test.mjs', 'data.test.mjs', 'relay.test.mjs', 'impairment.test.mjs']

const network = `
set -e
ip link set lo up
ip link add sotto0 type veth peer name sotto1
ip addr add 198.18.0.1/24 dev sotto0
ip link set sotto0 up
ip link set sotto1 up
ip route add default dev sotto0
exec "$0" "$@"`

const run = spawnSync('unshare', ['--net', 'sh', '-c', network,
  process.execPath, '--test', '--test-concurrency=1', '--test-reporter=spec', ...files], { cwd: here, stdio: 'inherit' })
if (run.error) throw run.error
process.exit(run.status ?? 1)
