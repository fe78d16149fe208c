/**
 * The system calls that code in a process sandbox does not get: what takes memory that no limit counts, what makes namespaces, mounts or
 * modules, what looks into other processes, and what has been the way to most escapes through the kernel. They answer as if the kernel did
 * not have them (ENOSYS), so that libraries use what else there is.
 *
 * It is a classic BPF program (seccomp(2)): eight bytes an instruction, in the machine's own byte order, which is little-endian on both
 * architectures.
 */
/** `process.arch` of the machines whose calls are listed. */
export type Architecture = "x64" | "arm64";

/** Numbers on x86_64 and aarch64. */
const DENIED: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  // memory beside that of processes
  memfd_create: [319, 279],
  memfd_secret: [447, 447],
  shmget: [29, 194],
  shmat: [30, 196],
  shmctl: [31, 195],
  msgget: [68, 186],
  msgsnd: [69, 189],
  msgctl: [71, 187],
  semget: [64, 190],
  semctl: [66, 191],
  mq_open: [240, 180],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  // ways around this very filter, and large parts of the kernel
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  userfaultfd: [323, 282],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  fanotify_init: [300, 262],
  // namespaces and mounts
  unshare: [272, 97],
  setns: [308, 268],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  move_mount: [429, 429],
  open_tree: [428, 428],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  /** Its flags lie in memory that a filter cannot read; libraries then use `clone`, whose flags are looked at. */
  clone3: [435, 435],
  // other processes
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  pidfd_getfd: [438, 438],
  kcmp: [312, 272],
  // the machine
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  quotactl: [179, 60],
  syslog: [103, 116],
  acct: [163, 89],
};
const CLONE: readonly [x64: number, arm64: number] = [56, 220];
/** CLONE_NEWTIME is a signal number there; the others: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const CLONE_NAMESPACES = 0x7e020000;

const SOCKET: readonly [x64: number, arm64: number] = [41, 198];
const SOCKETPAIR: readonly [x64: number, arm64: number] = [53, 199];
const SETSOCKOPT: readonly [x64: number, arm64: number] = [54, 208];
/**
 * Families whose sockets stay in the network namespace: AF_UNIX, AF_INET, AF_INET6. Others do not, as AF_VSOCK, which leads to what runs the
 * machine, or are parts of the kernel that nothing here needs.
 */
const FAMILIES = [1, 2, 10];
/** Of it only NETLINK_ROUTE, by which libraries ask for interfaces. */
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOL_SOCKET = 1;
/** SO_SNDBUF, SO_RCVBUF and what forces them: memory that no limit of a process counts stays as small as it is by default. */
const BUFFER_SIZES = [7, 8, 32, 33];

/** AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64. */
const AUDIT: Readonly<Record<Architecture, number>> = { x64: 0xc000003e, arm64: 0xc00000b7 };
/** Calls of the 32-bit interface to 64-bit registers begin there; nothing here needs them. */
const X32_FIRST = 0x40000000;

const LOAD = 0x20;
const EQUAL = 0x15;
const AT_LEAST = 0x35;
const ANY_BIT = 0x45;
const RETURN = 0x06;
/** Where `struct seccomp_data` has them. */
const NUMBER_AT = 0;
const ARCH_AT = 4;
const FIRST_ARGUMENT_AT = 16;
const SECOND_ARGUMENT_AT = 24;
const THIRD_ARGUMENT_AT = 32;
const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const REFUSE = 0x00050000;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;
/** The call is not made and yet succeeds. */
const NOTHING = 0;

type Instruction = readonly [code: number, whenTrue: number, whenFalse: number, k: number];

/** The program for `bwrap --seccomp`. */
export function seccompFilter(architecture: Architecture): Buffer {
  const column = architecture === "x64" ? 0 : 1;
  const denied = Object.values(DENIED).map((numbers) => numbers[column]);
  const program: Instruction[] = [
    [LOAD, 0, 0, ARCH_AT],
    [EQUAL, 1, 0, AUDIT[architecture]],
    [RETURN, 0, 0, KILL_PROCESS], // another architecture's calls, with other numbers
    [LOAD, 0, 0, NUMBER_AT],
  ];
  if (architecture === "x64") program.push([AT_LEAST, 0, 1, X32_FIRST], [RETURN, 0, 0, REFUSE | ENOSYS]);
  for (const number of denied) program.push([EQUAL, 0, 1, number], [RETURN, 0, 0, REFUSE | ENOSYS]);
  const refuseFamily: Instruction = [RETURN, 0, 0, REFUSE | EAFNOSUPPORT];
  const pretend: Instruction = [RETURN, 0, 0, REFUSE | NOTHING];
  const allow: Instruction = [RETURN, 0, 0, ALLOW];
  /** Instructions for one call, which all end it. */
  const only = (number: number, body: readonly Instruction[]): void => {
    program.push([EQUAL, 0, body.length, number], ...body);
  };
  /** To whatever stands behind the next `rest` instructions. */
  const oneOf = (values: readonly number[], rest: number): Instruction[] =>
    values.map((value, at): Instruction => [EQUAL, values.length - 1 - at + rest, 0, value]);
  only(SOCKET[column], [
    [LOAD, 0, 0, FIRST_ARGUMENT_AT],
    ...oneOf(FAMILIES, 4),
    [EQUAL, 0, 2, AF_NETLINK],
    [LOAD, 0, 0, THIRD_ARGUMENT_AT],
    [EQUAL, 1, 0, NETLINK_ROUTE],
    refuseFamily,
    allow,
  ]);
  only(SOCKETPAIR[column], [[LOAD, 0, 0, FIRST_ARGUMENT_AT], ...oneOf(FAMILIES, 1), refuseFamily, allow]);
  only(SETSOCKOPT[column], [
    [LOAD, 0, 0, SECOND_ARGUMENT_AT],
    [EQUAL, 0, 1 + BUFFER_SIZES.length, SOL_SOCKET],
    [LOAD, 0, 0, THIRD_ARGUMENT_AT],
    ...oneOf(BUFFER_SIZES, 1),
    allow,
    pretend,
  ]);
  program.push(
    [EQUAL, 0, 3, CLONE[column]],
    [LOAD, 0, 0, FIRST_ARGUMENT_AT],
    [ANY_BIT, 0, 1, CLONE_NAMESPACES],
    [RETURN, 0, 0, REFUSE | EPERM],
    allow,
  );
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, [code, whenTrue, whenFalse, k]] of program.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(whenTrue, index * 8 + 2);
    bytes.writeUInt8(whenFalse, index * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, index * 8 + 4);
  }
  return bytes;
}
