import { expect } from "vitest";
import type { ServerProof, ToolCall } from "./proof.ts";

const ADD: ToolCall = ["add_task", { id: "@t", description: "Work" }];
const CLAIM: ToolCall = ["claim_task", { taskId: "@t" }];
const FLOW: ToolCall = ["create_workflow", { id: "@flow", name: "Flow", tasks: [{ id: "@f1", description: "Build" }] }];
const RUN: ToolCall = ["execute_workflow", { workflowId: "@flow" }];

export const taskCoordination: ServerProof = {
  setup: [
    ["add_task", { id: "a1", description: "Work" }],
    ["add_task", { id: "a2", description: "Claimed work" }],
    ["claim_task", { taskId: "a2" }],
    ["claim_worker_slot", {}],
  ],
  story: [
    ["add_task", { id: "first", description: "One" }],
    ["add_tasks", { tasks: [{ id: "second", description: "Two", dependencies: ["first"], parameters: { a: [1, null] } }] }],
    ["claim_worker_slot", {}],
    ["get_workers", {}],
    ["claim_next_task", { workerSlot: 1 }],
    ["renew_task", { taskId: "first" }],
    ["update_task", { taskId: "first", status: "done", output: { lines: ["x"] } }],
    ["get_available_tasks", {}],
    ["claim_task", { taskId: "second" }],
    ["get_task", { taskId: "second" }],
    ["get_task", { taskId: "second", field: "description", offset: 1 }],
    ["reset_failed_task", { taskId: "second" }],
    ["cancel_task", { taskId: "second" }],
    ["get_all_tasks", { limit: 1 }],
    ["release_worker_slot", { slot: 1 }],
    ["claim_next_task", {}],
    // what to expect, who is to do it, how it goes
    ["validate_task", { task: { description: "Three", deadline: 1, requiredCapabilities: ["sing"], dependencies: ["first"] } }],
    ["validate_task", { task: { title: 7, colour: "red" } }],
    ["estimate_task", { taskId: "first" }],
    ["add_task", { id: "third", description: "Three", deadline: 1 }],
    ["assign_tasks", { strategy: "adaptive" }],
    ["get_metrics", { scope: "swarm" }],
    ["get_metrics", { scope: "agent" }],
    // workflows and templates
    ["create_workflow", { name: "Release", id: "flow", tasks: [{ id: "flow-1", description: "Build" }] }],
    ["execute_workflow", { workflowId: "flow" }],
    ["pause_workflow", { workflowId: "flow" }],
    ["resume_workflow", { workflowId: "flow" }],
    ["get_workflow_status", { workflowId: "flow" }],
    ["list_workflows", {}],
    ["cancel_workflow", { workflowId: "flow" }],
    [
      "save_workflow_template",
      { id: "flows", parameters: [{ name: "what", type: "string", default: "x" }], tasks: [{ description: "Do {{what}}" }] },
    ],
    ["list_workflow_templates", {}],
    ["create_workflow", { templateId: "flows", parameters: { what: "all" } }],
  ],
  writes: {
    add_task: { before: [], args: { description: "No id of its own" }, other: { description: "Another" } },
    add_tasks: {
      before: [],
      args: { tasks: [{ description: "A" }, { description: "B" }] },
      other: { tasks: [{ description: "A" }] },
    },
    claim_task: { before: [ADD], args: { taskId: "@t" }, other: { taskId: "other" } },
    claim_next_task: { before: [ADD, ["add_task", { id: "@u", description: "More work" }]], args: {}, other: { type: "other" } },
    renew_task: { before: [ADD, CLAIM], args: { taskId: "@t" }, other: { taskId: "other" } },
    update_task: {
      before: [ADD, ["add_task", { id: "@u", description: "Next", dependencies: ["@t"] }], CLAIM],
      args: { taskId: "@t", status: "done", output: { b: 1, a: [2] } },
      other: { taskId: "@t", status: "done", output: { b: 2, a: [2] } },
    },
    reset_failed_task: { before: [ADD, CLAIM], args: { taskId: "@t" }, other: { taskId: "other" } },
    cancel_task: { before: [ADD], args: { taskId: "@t", reason: "Not needed" }, other: { taskId: "@t" } },
    claim_worker_slot: { before: [], args: {}, other: { workerId: "child" } },
    release_worker_slot: { before: [["claim_worker_slot", {}]], args: { slot: 1 }, other: { slot: 2 } },
    create_workflow: {
      before: [],
      args: { name: "New", tasks: [{ description: "A" }] },
      other: { name: "New", tasks: [{ description: "B" }] },
    },
    execute_workflow: { before: [FLOW], args: { workflowId: "@flow" }, other: { workflowId: "other" } },
    pause_workflow: { before: [FLOW, RUN], args: { workflowId: "@flow" }, other: { workflowId: "other" } },
    resume_workflow: {
      before: [FLOW, RUN, ["pause_workflow", { workflowId: "@flow" }]],
      args: { workflowId: "@flow" },
      other: { workflowId: "other" },
    },
    cancel_workflow: { before: [FLOW], args: { workflowId: "@flow" }, other: { workflowId: "other" } },
    save_workflow_template: {
      before: [],
      args: { id: "@template", name: "Template", tasks: [{ id: "a", description: "A" }] },
      other: { id: "@template", name: "Template", tasks: [{ id: "a", description: "B" }] },
    },
    assign_tasks: { before: [ADD], args: { strategy: "load_balanced" }, other: { strategy: "capability" } },
  },
  hostile: (text, n) => {
    const [id, flow, title] = [`t${n}`, `flow${n}`, text.slice(0, 200)];
    const parameters = { [`k ${text.slice(0, 60)}`]: text, list: [text] };
    return [
      ["writer", "add_task", { id, description: text, title, output: text, parameters, backoff: { initialMs: 0 } }],
      ["writer", "add_task", { id: `${id}-next`, description: text, title, dependencies: [id] }],
      ["writer", "claim_task", { taskId: id }],
      ["writer", "update_task", { taskId: id, status: "working", progress: { percent: 1, note: text } }],
      ["writer", "update_task", { taskId: id, status: "available", checkpoint: text }],
      ["writer", "claim_task", { taskId: id }],
      ["writer", "update_task", { taskId: id, status: "failed", error: text }],
      ["writer", "claim_task", { taskId: id }],
      [
        "writer",
        "create_workflow",
        { id: flow, name: title, metadata: { note: text }, tasks: [{ id: `f${n}`, description: text, title }] },
      ],
      ["writer", "execute_workflow", { workflowId: flow }],
      ["reader", "get_task", { taskId: id }],
      ["reader", "get_task", { taskId: id, field: "description" }],
      ["reader", "get_task", { taskId: id, field: "parameters" }],
      ["reader", "get_all_tasks", {}],
      ["reader", "get_available_tasks", {}],
      ["reader", "get_workers", {}],
      // refusals, each about a record that is full of hostile text
      ["reader", "claim_task", { taskId: id }],
      ["reader", "update_task", { taskId: id, status: "done" }],
      ["reader", "renew_task", { taskId: id }],
      ["reader", "add_task", { id, description: "Mine" }],
      ["reader", "claim_task", { taskId: `${id}-next` }],
      ["reader", "get_task", { taskId: id, field: "output" }],
      ["reader", "get_task", { taskId: id, field: "description", offset: 999_999 }],
      ["reader", "add_task", { id: "bad id", description: text }],
      ["reader", "get_task", { taskId: text.slice(0, 60) }],
      ["reader", "get_all_tasks", { cursor: text.slice(0, 60) }],
      ["reader", "get_workflow_status", { workflowId: flow }],
      ["reader", "list_workflows", {}],
      ["reader", "pause_workflow", { workflowId: "no-such-flow" }],
      ["reader", "claim_next_task", { workflowId: flow }],
      ["writer", "update_task", { taskId: id, status: "done", output: { report: text } }],
      ["reader", "claim_task", { taskId: `${id}-next` }],
    ];
  },
  roundTrip: async (writer, reader, mark) => {
    await writer.call("add_task", { id: mark, description: `Work of ${mark}` });
    const { task } = await reader.call<{ task: { description: string; createdBy: string } }>("get_task", { taskId: mark });
    expect(task).toMatchObject({ description: `Work of ${mark}`, createdBy: writer.agent });
  },
};
