// MQTT.js against outlive ($OUTLIVE, on $PORTS: see ports.py): mqttjs.js 3.1|3.1.1|5.0 [broken]
// With `broken` each connection ends after a few hundred bytes, wherever that is in a packet.
'use strict'

const assert = require('node:assert')
const { spawn } = require('node:child_process')
const { once, EventEmitter } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const mqtt = require('mqtt')

const PATIENCE_MILLIS = 30_000
const MESSAGES = 300 // of each QoS
const PACKET_ID_NOT_FOUND = 0x92
const VERSIONS = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5, properties: { sessionExpiryInterval: 3600 } }
}

class Broker {
  async prepare () {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'outlive-'))
    ;[this.port, this.admin] = process.env.PORTS.split(' ').map(Number)
    await this.start()
  }

  async start () {
    this.process = spawn(process.env.OUTLIVE, [
      'run', '--data-dir', path.join(this.directory, 'data'), '--listen', `127.0.0.1:${this.port}`,
      '--set', `admin.listen=127.0.0.1:${this.admin}`
    ], { stdio: ['ignore', 'inherit', 'inherit'] })
    const end = Date.now() + PATIENCE_MILLIS
    while (!await this.ready()) {
      assert(Date.now() < end, 'the broker is never ready')
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }

  async ready () {
    try {
      return (await fetch(`http://127.0.0.1:${this.admin}/readyz`)).status === 200
    } catch {
      return false
    }
  }

  async kill () {
    const exited = once(this.process, 'exit')
    this.process.kill('SIGKILL')
    await exited
  }

  async crash () {
    await this.kill()
    await this.start()
  }
}

// Between clients and broker. While it `breaks`, each connection carries so many bytes and then ends.
class Network {
  constructor (broker) {
    this.broker = broker
    this.breaks = false
    this.broken = 0
    this.seed = 1
    this.server = net.createServer(client => this.carry(client)).listen(0, '127.0.0.1')
  }

  // The same budgets in every run.
  budget () {
    this.seed = (this.seed * 1_103_515_245 + 12_345) % 2_147_483_648
    return 200 + this.seed % 2000
  }

  carry (client) {
    const broker = net.connect(this.broker.port, '127.0.0.1')
    let left = this.breaks ? this.budget() : Infinity
    for (const [from, to] of [[client, broker], [broker, client]]) {
      from.setNoDelay(true)
      from.on('error', () => {}) // an end like any other
      from.on('close', () => to.destroy())
      from.on('data', data => {
        const piece = data.subarray(0, left)
        left -= piece.length
        to.write(piece)
        if (left > 0) return
        this.broken++
        client.destroySoon()
        broker.destroySoon()
        left = 0
      })
    }
  }

  async port () {
    if (!this.server.listening) await once(this.server, 'listening')
    return this.server.address().port
  }
}

// A client with what happened to it, to be waited for.
class Client extends EventEmitter {
  constructor (broker, version, clientId) {
    super()
    this.got = { 1: [], 2: [] }
    this.acknowledged = 0
    this.connects = 0
    this.client = mqtt.connect({
      host: '127.0.0.1', port: broker.port, clientId, clean: false, reconnectPeriod: 50, resubscribe: false, ...VERSIONS[version]
    })
    this.client.on('error', () => {}) // refused while the broker is down
    this.client.on('connect', () => { this.connects++; this.emit('change') })
    this.client.on('message', (_topic, payload, packet) => {
      this.got[packet.qos].push(Number(payload.toString()))
      this.emit('change')
    })
  }

  async wait (what, holds) {
    const signal = AbortSignal.timeout(PATIENCE_MILLIS)
    while (!holds()) {
      await once(this, 'change', { signal }).catch(() => { throw new Error(`never: ${what}`) })
    }
  }

  publish (from, to) {
    for (let number = from; number < to; number++) {
      for (const qos of [1, 2]) this.publishOne(number, qos)
    }
  }

  publishOne (number, qos) {
    this.client.publish('t', String(number), { qos }, error => {
      // The connection broke while older ones were sent again: MQTT.js has dropped all that it had not begun.
      if (error?.message === 'Connection closed') return setImmediate(() => this.publishOne(number, qos))
      // PUBREL repeated after a crash that came between its record and its PUBCOMP: "not an error during recovery" (3.7.2.1).
      if (error && error.code !== PACKET_ID_NOT_FOUND) throw error
      this.acknowledged++
      this.emit('change')
    })
  }

  async cut () {
    const before = this.connects
    this.client.stream.destroy()
    await this.wait('reconnected', () => this.connects > before)
  }
}

async function scenario (broker, version, broken) {
  const network = new Network(broker)
  const way = broken ? { port: await network.port() } : broker
  let reader = new Client(way, version, 'reader')
  await reader.wait('connected', () => reader.connects > 0)
  await reader.client.subscribeAsync('t', { qos: 2 })
  await reader.client.endAsync()

  network.breaks = true
  const writer = new Client(way, version, 'writer')
  const third = MESSAGES / 3
  writer.publish(0, third)
  await writer.wait('the first are acknowledged', () => writer.acknowledged >= third)
  await broker.crash()
  writer.publish(third, 2 * third)
  await writer.wait('more are acknowledged', () => writer.acknowledged >= 3 * third)
  await writer.cut()
  writer.publish(2 * third, MESSAGES)
  await writer.wait('all are acknowledged', () => writer.acknowledged >= 2 * MESSAGES)

  reader = new Client(way, version, 'reader')
  await reader.wait('some arrive', () => reader.got[2].length > 10)
  await reader.cut()
  await reader.wait('more arrive', () => reader.got[2].length > 50)
  await broker.crash()
  for (const qos of [1, 2]) {
    await reader.wait(`all of QoS ${qos}`, () => new Set(reader.got[qos]).size === MESSAGES)
  }
  network.breaks = false
  assert(!broken || network.broken > 10, `${network.broken} connections were broken`)
  await reader.cut()
  await writer.cut()
  await writer.wait('the writer is back', () => writer.client.connected)
  writer.publish(MESSAGES, MESSAGES + 1)
  await reader.wait('the end mark', () => reader.got[1].includes(MESSAGES) && reader.got[2].includes(MESSAGES))
  const all = Array.from({ length: MESSAGES + 1 }, (_, number) => number)
  assert.deepStrictEqual(reader.got[2], all, 'QoS 2, not exactly once and in order')
  assert.deepStrictEqual([...new Set(reader.got[1])], all, 'QoS 1, order')
}

async function main () {
  const broker = new Broker()
  process.on('exit', () => broker.process?.kill('SIGKILL')) // whatever ends this program
  await broker.prepare()
  let code = 0
  try {
    await scenario(broker, process.argv[2], process.argv[3] === 'broken')
  } catch (error) {
    console.error(error)
    code = 1
  }
  await broker.kill()
  fs.rmSync(broker.directory, { recursive: true, force: true })
  process.exit(code)
}

main()
