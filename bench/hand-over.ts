/**
 * How long it takes from one process to a call that waits in another, one at a time, with official clients: the sender's call
 * begins, the waiter's call has its answer. Both hosts are this process, so one clock measures; each has a server process of
 * its own. Beside it, in the same run and by turns, what two calls to bare servers of the official SDK take, one after the
 * other: less than that a hand-over between two MCP servers can hardly be.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Host } from "../test/support/host.ts";
import { ECHO, READS } from "./reads.ts";
import type { Row } from "./row.ts";
import { type Engine, echoServer, type ServerName } from "./servers.ts";
import { percentile } from "./stats.ts";

/** What is promised of a message, and so of a change of state, which wakes as messages do; and of one after a while of nothing. */
const P50_MS_MAX = 2;
const P99_MS_MAX = 10;
const IDLE_P50_MS_MAX = 5;
/** Some go before, unheard: no code is cold. */
const WARM_UP = 150;
/** Of the hand-overs that come after a while of nothing: how long that is, and how many there are. */
const IDLE_MS = 20;
const IDLE_COUNT = 100;

export interface HandOver {
  server: ServerName;
  /** Begins a call that waits for number `n`, and checks that it got that and nothing else. */
  receive(host: Host, n: number): Promise<void>;
  send(host: Host, n: number): Promise<void>;
  /** What the receiver does with what it got, unmeasured. */
  after?(host: Host): Promise<void>;
}

export interface Latencies {
  ours: number[];
  floor: number[];
}

/** One right after the other, and each after a while in which nobody did anything: then the machine itself must wake too. */
export interface BusyAndIdle {
  busy: Latencies;
  idle: Latencies;
}

export async function handOvers(engine: Engine, count: number, { server, receive, send, after }: HandOver): Promise<BusyAndIdle> {
  const store = await engine.freshStore(server);
  const start = (agent: string) => Host.start({ server, store, agent, env: { SWARM_DURABILITY: engine.durability } });
  const { args: prefix } = await echoServer();
  await using sender = await start("sender");
  await using receiver = await start("receiver");
  await using bareSender = await Host.start({ prefix });
  await using bareReceiver = await Host.start({ prefix });
  let n = 0;
  const measure = async (times: number, idleMs: number): Promise<Latencies> => {
    const latencies: Latencies = { ours: [], floor: [] };
    const idle = () => (idleMs > 0 ? sleep(idleMs) : undefined);
    for (const last = n + times; n < last; n++) {
      const received = receive(receiver, n).then(() => performance.now());
      received.catch(() => {}); // a send that fails is heard of first
      await receiver.call(READS[server].tool, READS[server].args); // the server has the call that waits
      await idle();
      const sentAt = performance.now();
      const [receivedAt] = await Promise.all([received, send(sender, n)]);
      latencies.ours.push(receivedAt - sentAt);
      await after?.(receiver);
      await idle();
      const floorAt = performance.now();
      await bareSender.call(ECHO.tool, ECHO.args);
      await bareReceiver.call(ECHO.tool, ECHO.args);
      latencies.floor.push(performance.now() - floorAt);
    }
    return latencies;
  };
  await measure(WARM_UP, 0);
  return { busy: await measure(count, 0), idle: await measure(IDLE_COUNT, IDLE_MS) };
}

/** The rows of one engine. */
export function handOverRows(what: string, engine: string, { busy, idle }: BusyAndIdle): Row[] {
  const value = percentile(idle.ours, 0.5);
  const least = percentile(idle.floor, 0.5);
  const afterIdle = {
    what: `${what}, each after ${IDLE_MS} ms of nothing, ${engine}: p50`,
    subject: inMs(value),
    control: inMs(least),
    ratio: value / least,
    goal: { atMost: IDLE_P50_MS_MAX, value },
  };
  return [...latencyRows(`${what}, ${engine}`, busy, [P50_MS_MAX, P99_MS_MAX]), afterIdle];
}

/** Median and 99th percentile, and their goals in ms where there are any. */
export function latencyRows(what: string, { ours, floor }: Latencies, goals?: readonly [p50: number, p99: number]): Row[] {
  const shares = [
    ["p50", 0.5],
    ["p99", 0.99],
  ] as const;
  return shares.map(([name, share], at) => {
    const value = percentile(ours, share);
    const least = percentile(floor, share);
    const atMost = goals?.[at];
    return {
      what: `${what}: ${name}`,
      subject: inMs(value),
      control: inMs(least),
      ratio: value / least,
      ...(atMost === undefined ? {} : { goal: { atMost, value } }),
    };
  });
}

export function inMs(value: number): string {
  return `${value.toFixed(2)} ms`;
}
