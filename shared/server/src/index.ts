export { ANSWER_BYTES_MAX, cut, fit, shrinkToFit } from "./answer.ts";
export { CHANNEL_EVENT_BYTES_MAX, type ChannelEvent, type Push } from "./channel.ts";
export { type Config, commonGitDirectory, readConfig } from "./config.ts";
export {
  type Attachment,
  IMAGE_BYTES_MAX,
  IMAGE_TYPES,
  IMAGES_MAX,
  LINKS_MAX,
  RawContent,
  RESOURCE_BYTES_MAX,
} from "./content.ts";
export type { Channel, CommandHost, Domain, Host, ServerDefinition } from "./definition.ts";
export * as fields from "./fields.ts";
export type { Log } from "./log.ts";
export { closeWithin, endOf, orExplain, runServer, shownStore } from "./main.ts";
export { MountedServer, type Selection } from "./mount.ts";
export { SwarmProcess } from "./process.ts";
export {
  type ListedResource,
  type ParamsOf,
  type Resource,
  type ResourceContext,
  type ResourcePage,
  type ResourceSpec,
  type ResourceWatching,
  resourcesFor,
} from "./resource.ts";
export {
  type Effects,
  READS,
  type Sample,
  type SampleRequest,
  type Tool,
  type ToolContext,
  type ToolSpec,
  toolsFor,
  WRITES,
} from "./tool.ts";
export { packageVersion } from "./version.ts";
