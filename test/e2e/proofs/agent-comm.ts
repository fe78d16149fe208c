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
