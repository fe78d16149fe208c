import { taskOf } from "@mcp-swarm/coordination/tasks";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { fillJson, fillText, type NewTemplate, parameterValues, type TemplateParameter } from "../src/workflow-template.ts";
import { swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

const release: NewTemplate = {
  id: "release",
  name: "Release {{version}}",
  description: "Builds and ships one module",
  parameters: [
    { name: "version", type: "string", required: true },
    { name: "count", type: "number", default: 3 },
    { name: "dry", type: "boolean" },
    { name: "stage", type: "enum", values: ["test", "live"], default: "test" },
    { name: "module", type: "string", default: "core" },
  ],
  tasks: [
    {
      id: "build",
      title: "Build {{ version }}",
      description: "Build {{module}} for {{stage}}",
      expectedOutput: "{{module}}.tgz",
      files: ["packages/{{module}}/**"],
      parameters: {
        count: "{{count}}",
        dry: "{{dry}}",
        text: "{{count}} of {{module}}",
        deep: [{ stage: "{{stage}}" }],
        "{{key}}": 1,
      },
      rollback: { description: "Delete {{module}} {{version}}" },
    },
    { description: "Ship {{version}}" },
  ],
  dependencies: { "task-2": ["build"] },
  onFailure: "compensate",
};

async function fill(parameters: Record<string, unknown>) {
  const { store, host } = swarm();
  const planner = host("planner");
  await planner.templates.save(planner.call, release);
  const { workflow, tasks } = await planner.workflows.create(planner.call, {
    templateId: "release",
    parameters: parameters as Record<string, string>,
  });
  const stored = await store.getMany(tasks.map(({ id }) => `task/${id}`));
  return { workflow, tasks: stored.flatMap((entry) => (entry ? [taskOf(entry.value)] : [])) };
}

describe("templates", () => {
  test("a template is filled in, and a placeholder that is a whole text keeps the type of its parameter", async () => {
    verifies("TASK-16");
    const { workflow, tasks } = await fill({ version: "1.2", dry: true, module: "api" });
    expect(workflow).toMatchObject({ name: "Release 1.2", onFailure: "compensate", templateId: "release" });
    const [build, ship] = tasks;
    expect(build).toMatchObject({
      id: `${workflow.id}.build`,
      title: "Build 1.2",
      description: "Build api for test",
      expectedOutput: "api.tgz",
      files: ["packages/api/**"],
      parameters: { count: 3, dry: true, text: "3 of api", deep: [{ stage: "test" }], "{{key}}": 1 },
      rollback: { description: "Delete api 1.2", id: `${workflow.id}.build.rollback` },
    });
    expect(ship).toMatchObject({ description: "Ship 1.2", dependencies: [`${workflow.id}.build`] });
  });

  test("what a caller names for the workflow goes before what the template says", async () => {
    const { host } = swarm();
    const planner = host("planner");
    await planner.templates.save(planner.call, { id: "t", tasks: [{ description: "x" }] });
    const { workflow } = await planner.workflows.create(planner.call, {
      templateId: "t",
      name: "Mine",
      onFailure: "continue",
      execute: true,
    });
    expect(workflow).toMatchObject({ name: "Mine", onFailure: "continue", status: "running" });
  });

  test.each([
    ["unknown", { version: "1", other: 1 }, /no such parameter: other/],
    ["missing", {}, /missing: version/],
    ["no text", { version: 1 }, /version must be a text/],
    ["no number", { version: "1", count: "3" }, /count must be a number/],
    ["no boolean", { version: "1", dry: "true" }, /dry must be true or false/],
    ["no value of the enum", { version: "1", stage: "prod" }, /stage must be one of/],
    ["a glob, not a path", { version: "1", module: "../**" }, /module is part of a file glob/],
    ["braces in a glob", { version: "1", module: "{a,b}" }, /module is part of a file glob/],
    ["a way out of the folder", { version: "1", module: "a/../.." }, /module is part of a file glob/],
  ])("parameters are checked, and nothing is made of wrong ones: %s", async (_, parameters, message) => {
    verifies("TASK-16");
    await expect(fill(parameters)).rejects.toEqual(code("invalid_argument", message));
  });

  test.each<[string, Partial<NewTemplate>, RegExp]>([
    ["an undeclared placeholder", { tasks: [{ description: "{{nowhere}}" }] }, /nowhere stands for no declared parameter/],
    ["a parameter twice", { parameters: [...(release.parameters ?? []), { name: "dry", type: "string" }] }, /dry/],
    ["an enum without values", { parameters: [{ name: "dry", type: "enum" }] }, /dry has values exactly/],
    ["a default of another type", { parameters: [{ name: "dry", type: "boolean", default: "yes" }] }, /dry must be/],
    ["a circle", { tasks: [{ id: "a", description: "x", dependencies: ["a"] }], dependencies: {} }, /itself/],
    ["an unknown task", { dependencies: { nothing: ["build"] } }, /nothing/],
  ])("a template that cannot become a workflow is not saved: %s", async (_, change, message) => {
    verifies("TASK-16");
    const { host } = swarm();
    const planner = host("planner");
    await expect(planner.templates.save(planner.call, { ...release, ...change })).rejects.toEqual(
      code("invalid_argument", message),
    );
    expect((await planner.templates.list(planner.call.store, {})).templates).toEqual([]);
  });

  test("templates are listed in pages with their parameters, and saving again replaces one", async () => {
    verifies("TASK-16");
    const { host } = swarm();
    const planner = host("planner");
    for (const id of ["b", "a", "c"]) await planner.templates.save(planner.call, { ...release, id });
    await planner.templates.save(planner.call, { id: "b", tasks: [{ description: "x" }] });
    const first = await planner.templates.list(planner.call.store, { limit: 2 });
    expect(first.templates).toMatchObject([
      { id: "a", version: 1, totalTasks: 2, parameters: release.parameters },
      { id: "b", version: 2, totalTasks: 1, parameters: [], savedBy: "planner" },
    ]);
    const rest = await planner.templates.list(planner.call.store, { limit: 2, cursor: first.nextCursor });
    expect(rest.templates.map(({ id }) => id)).toEqual(["c"]);
    expect(rest.nextCursor).toBeUndefined();
  });

  test("a workflow comes from tasks or from a template, not from both or none, and an unknown template is named", async () => {
    const { host } = swarm();
    const { workflows, call } = host("planner");
    const tasks = [{ description: "x" }];
    await expect(workflows.create(call, { templateId: "none" })).rejects.toEqual(code("not_found", /none/));
    await expect(workflows.create(call, { templateId: "none", tasks })).rejects.toEqual(code("invalid_argument"));
    await expect(workflows.create(call, { name: "x", tasks, parameters: {} })).rejects.toEqual(code("invalid_argument"));
    await expect(workflows.create(call, { name: "x" })).rejects.toEqual(code("invalid_argument"));
    await expect(workflows.create(call, { tasks })).rejects.toEqual(code("invalid_argument", /name/));
  });

  test("whatever text a value is, it stays one text and is never read as a placeholder", () => {
    verifies("TASK-16");
    const declared: TemplateParameter[] = [
      { name: "a", type: "string" },
      { name: "b", type: "string" },
    ];
    const tricky = fc.oneof(fc.string(), fc.constantFrom("{{a}}", "{{b}}", "$&", "$1", '","x":"', "{{", "__proto__"));
    fc.assert(
      fc.property(tricky, tricky, (a, b) => {
        const values = parameterValues(declared, { a, b });
        expect(fillText("<{{a}}|{{ b }}>", values)).toBe(`<${a}|${b}>`);
        expect(fillJson({ whole: "{{a}}", part: "-{{b}}", list: ["{{b}}", 1, null] }, values)).toEqual({
          whole: a,
          part: `-${b}`,
          list: [b, 1, null],
        });
      }),
    );
  });
});
