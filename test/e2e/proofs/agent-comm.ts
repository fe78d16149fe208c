import { expect } from "vitest";
import { Host } from "../../support/host.ts";
import type { ServerProof, ToolCall } from "./proof.ts";

/** To oneself, so that one host is enough: the agent is there because its server is. */
const SEND: ToolCall = ["send_message", { targetAgent: "a", messageType: "note", payload: "@" }];

/** Answers every request until it is disposed. */
async function answerer(store: string, server: string): Promise<AsyncDisposable> {
  const host = await Host.start({ server, store, agent: "answerer", env: { SWARM_LEASE_MS: "3600000" } });
  await host.call("list_agents"); // it is there once its first call is answered
  let over = false;
  const answering = (async () => {
    while (!over) {
      const { messages } = await host.call<{ messages: { id: string; from: string }[] }>("get_messages", {
        acknowledge: true,
        waitMs: 100,
      });
      for (const { id, from } of messages) {
        await host.call("send_message", { targetAgent: from, messageType: "answer", payload: "Yes", replyTo: id });
      }
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      over = true;
      await answering;
      await host.close();
    },
  };
}

export const agentComm: ServerProof = {
  setup: [
    ["register_agent", { agentType: "tester", capabilities: ["sing"] }],
    ["send_message", { targetAgent: "a1", messageType: "note", payload: { text: "Hello" }, ackWithinMs: 60_000 }],
    ["send_message", { targetAgent: "a1", messageType: "note", payload: "Taken" }],
    ["get_messages", { limit: 1 }],
    ["subscribe", { topics: ["builds"] }],
  ],
  meanwhile: answerer,
  story: [
    [
      "register_agent",
      { agentType: "tester", capabilities: ["sing"], description: "Sings", metadata: { voice: ["alto", null] } },
    ],
    ["list_agents", { capability: "sing", limit: 1 }],
    [
      "update_agent_status",
      { status: "working", currentTask: "A song", load: 0.5, results: { bars: [1, 2] }, agentRole: "singer" },
    ],
    ["get_agent_status", {}],
    ["update_agent_configuration", { configuration: { key: { tone: "a" } } }],
    ["get_agent_configuration", { agentId: "teller" }],
    ["send_message", { targetAgent: "teller", messageType: "note", payload: { text: "Hear" }, ackWithinMs: 60_000, priority: 9 }],
    ["get_messages", { limit: 1 }],
    ["get_messages", { types: ["note"], waitMs: 0 }],
    ["send_message", { targetAgent: "teller/child", messageType: "note", payload: [1], mailbox: true, correlationId: "song" }],
    ["get_messages", { agentId: "child" }],
    ["request_reply", { targetAgent: "answerer", payload: { question: "Who?" }, waitMs: 20_000 }],
    ["get_message", { messageId: "%reply.id" }],
    ["send_message", { targetAgent: "teller", messageType: "note", payload: "Go" }],
    ["get_messages", {}],
    ["acknowledge_messages", { messageIds: ["%message.id"], outcome: "reject", reason: "Not mine" }],
    ["list_dead_letters", {}],
    ["redeliver_messages", { messageIds: ["%message.id"] }],
    ["get_thread", { correlationId: "song" }],
    ["search_messages", { text: "hear" }],
    ["broadcast_message", { scope: "all", messageType: "note", payload: "All" }],
    ["subscribe", { topics: ["builds", "songs.*"], types: ["note"], replayFrom: "start" }],
    ["broadcast_message", { scope: "topic", name: "builds", messageType: "note", payload: "Built", keep: true }],
    ["list_topics", {}],
    ["list_subscriptions", {}],
    ["unsubscribe", { subscriptionId: "%subscription.id" }],
    ["mark_overdue", {}],
    ["unregister_agent", {}],
  ],
  writes: {
    register_agent: {
      before: [],
      args: { agentType: "@tester", capabilities: ["sing"] },
      other: { agentType: "@other", capabilities: [] },
    },
    unregister_agent: {
      before: [["register_agent", { agentType: "@tester", capabilities: [] }]],
      args: {},
      other: { agentId: "a/child" },
    },
    update_agent_status: { before: [], args: { status: "@busy", results: { b: 1, a: [2] } }, other: { status: "@idle" } },
    update_agent_configuration: { before: [], args: { configuration: { "@": 1 } }, other: { configuration: { "@": 2 } } },
    send_message: {
      before: [],
      args: { targetAgent: "a", messageType: "note", payload: { b: 1, a: [2] } },
      other: { targetAgent: "a", messageType: "note", payload: { b: 2, a: [2] } },
    },
    get_messages: { before: [SEND], args: { limit: 1 }, other: { limit: 2 } },
    acknowledge_messages: {
      before: [SEND, ["get_messages", { limit: 25 }]],
      args: { messageIds: ["%message.id"], outcome: "done" },
      other: { messageIds: ["%message.id"], outcome: "reject" },
    },
    redeliver_messages: {
      before: [
        SEND,
        ["get_messages", { limit: 25 }],
        ["acknowledge_messages", { messageIds: ["%message.id"], outcome: "reject" }],
      ],
      args: { messageIds: ["%message.id"] },
      other: { messageIds: ["message-other"] },
    },
    request_reply: {
      before: [],
      args: { targetAgent: "answerer", payload: { question: "@" } },
      other: { targetAgent: "answerer", payload: { question: "another" } },
      meanwhile: answerer,
    },
    broadcast_message: {
      before: [],
      args: { scope: "topic", name: "builds", messageType: "note", payload: "@" },
      other: { scope: "topic", name: "builds", messageType: "note", payload: "another" },
    },
    subscribe: { before: [], args: { topics: ["@builds"] }, other: { topics: ["@songs"] } },
    unsubscribe: {
      before: [["subscribe", { topics: ["@builds"] }]],
      args: { subscriptionId: "%subscription.id" },
      other: { subscriptionId: "subscription-other" },
    },
  },
  hostile: (text, n) => {
    const [thread, short] = [`thread-${n}`, text.slice(0, 60)];
    const payload = { [`k ${short}`]: text, list: [text] };
    const note = { messageType: "note", correlationId: thread };
    return [
      ["reader", "register_agent", { agentType: "tester", capabilities: ["read"] }],
      ["reader", "subscribe", { topics: [`topic-${n}`] }],
      ["reader", "subscribe", { topics: ["topic-*"], types: ["other"] }],
      [
        "writer",
        "register_agent",
        { agentType: "tester", capabilities: ["write"], description: text, metadata: { note: text, [short]: 1 } },
      ],
      ["writer", "register_agent", { agentId: `child${n}`, agentType: "tester", capabilities: [], description: text }],
      ["writer", "update_agent_status", { status: "working", currentTask: text.slice(0, 200), results: { report: text } }],
      ["writer", "update_agent_configuration", { configuration: { [short]: text } }],
      ["writer", "send_message", { targetAgent: "reader", payload: text, ackWithinMs: 1, priority: 9, ...note }],
      ["writer", "send_message", { targetAgent: "reader", payload, ...note }],
      ["writer", "broadcast_message", { scope: "all", payload, ...note }],
      ["writer", "broadcast_message", { scope: "topic", name: `topic-${n}`, payload: [text], keep: true, ...note }],
      ["reader", "get_agent_status", { agentId: "writer" }],
      ["reader", "get_agent_configuration", { agentId: "writer" }],
      ["reader", "list_agents", {}],
      ["reader", "list_topics", {}],
      ["reader", "list_subscriptions", {}],
      ["reader", "get_messages", { types: ["note"], limit: 1 }],
      ["reader", "get_message", { messageId: "%messages.0.id" }],
      ["reader", "get_message", { messageId: "%messages.0.id", offset: 1 }],
      ["reader", "get_message", { messageId: "%messages.0.id", offset: 200_000 }],
      ["reader", "mark_overdue", {}],
      ["writer", "mark_overdue", {}],
      // a rejected message is a dead letter with a reason, seen by both ends
      ["reader", "acknowledge_messages", { messageIds: ["%messages.0.id"], outcome: "reject", reason: text }],
      ["reader", "list_dead_letters", {}],
      ["writer", "list_dead_letters", { sent: true }],
      ["reader", "get_messages", { types: ["note"], limit: 1 }],
      ["reader", "acknowledge_messages", { messageIds: ["%messages.0.id"], outcome: "later", reason: text, delayMs: 600_000 }],
      ["reader", "get_messages", { limit: 25 }],
      ["reader", "get_thread", { correlationId: thread }],
      ["reader", "search_messages", { text: "ZQX7" }],
      ["reader", "search_messages", { text: text.slice(0, 200) }],
      // refusals, each with hostile text in what is asked, or about a record that is full of it
      ["reader", "send_message", { targetAgent: short, messageType: "note", payload: text }],
      ["reader", "send_message", { targetAgent: "nobody", messageType: "note", payload: text }],
      ["reader", "send_message", { targetAgent: "writer", messageType: short, payload: text }],
      ["reader", "send_message", { targetAgent: "writer", messageType: "note", payload: text, replyTo: short }],
      ["reader", "send_message", { targetAgent: "writer", messageType: "note", payload: text, agentId: short }],
      ["reader", "send_message", { targetAgent: "writer", messageType: "note", payload: text, agentId: "writer" }],
      ["reader", "request_reply", { targetAgent: "writer", payload: text, waitMs: 0 }],
      ["reader", "broadcast_message", { scope: "topic", name: short, messageType: "note", payload: text }],
      ["reader", "broadcast_message", { scope: "workflow", name: "no-such-flow", messageType: "note", payload: text }],
      ["reader", "broadcast_message", { scope: short, messageType: "note", payload: text }],
      ["reader", "subscribe", { topics: [short] }],
      ["reader", "unsubscribe", { subscriptionId: short }],
      ["reader", "get_messages", { cursor: short }],
      ["reader", "get_messages", { from: short }],
      ["reader", "get_message", { messageId: "no-such-message" }],
      ["reader", "get_agent_status", { agentId: short }],
      ["reader", "update_agent_configuration", { agentId: "writer", configuration: { a: text } }],
      ["reader", "update_agent_status", { status: short }],
      ["writer", "unregister_agent", { agentId: `child${n}` }],
    ];
  },
  async roundTrip(writer, reader, mark) {
    await writer.call("send_message", {
      targetAgent: reader.agent,
      messageType: "note",
      payload: { text: `From ${writer.agent}`, mark },
      mailbox: true, // over HTTP an agent is there once it has called
    });
    const { messages } = await reader.call<{ messages: { from: string; payload: unknown }[] }>("get_messages", {
      from: writer.agent,
      acknowledge: true,
    });
    expect(messages).toMatchObject([{ from: writer.agent, payload: { text: `From ${writer.agent}`, mark } }]);
  },
};
