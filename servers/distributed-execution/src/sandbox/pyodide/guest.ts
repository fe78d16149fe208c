/** What of ours runs inside Python: it is given a task and answers how its code ended. */

/** Characters of the representation of a value that is not JSON. */
const REPR_MAX = 2_000;
/** Deepest value, and most parts of one. */
const VALUE_DEPTH_MAX = 32;
const VALUE_PARTS_MAX = 100_000;
/** Beyond this, numbers of JSON are not exact elsewhere. */
const SAFE_INTEGER = "9007199254740991";
/** How long tasks of asyncio that were left running may take to be cancelled, in seconds. */
const CANCEL_S = 0.5;

export const GUEST = `
import ast, asyncio, errno, json, linecache, os, random, sys, traceback
from pyodide.code import CodeRunner

NAME = "<task>"
MAIN = sys.modules["__main__"].__dict__

class NotJson(Exception):
    pass

def _plain(value, depth, parts):
    parts[0] += 1
    if depth > ${VALUE_DEPTH_MAX}:
        raise NotJson("it is nested too deeply")
    if parts[0] > ${VALUE_PARTS_MAX}:
        raise NotJson("it has too many parts")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if not -${SAFE_INTEGER} <= value <= ${SAFE_INTEGER}:
            raise NotJson("an integer is too large for JSON")
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise NotJson("a number is not finite")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(part, depth + 1, parts) for part in value]
    if isinstance(value, dict):
        plain = {}
        for key, part in value.items():
            if isinstance(key, str):
                name = str.__str__(key)
            elif key is None or isinstance(key, (bool, int, float)):
                name = json.dumps(_plain(key, depth, parts))
            else:
                raise NotJson("a key is not text")
            plain[name] = _plain(part, depth + 1, parts)
        return plain
    for name in ("tolist", "item"):
        convert = getattr(type(value), name, None)
        if convert is not None:
            return _plain(convert(value), depth + 1, parts)
    raise NotJson("of type " + type(value).__name__)

def _value(value, most):
    if value is None:
        return {}
    try:
        text = json.dumps(_plain(value, 0, [0]), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode("utf-8", "replace"))
        if size > most:
            return {"valueBytes": size}
        return {"value": text.encode("utf-8", "replace").decode("utf-8")}
    except Exception as error:
        why = str(error) if isinstance(error, NotJson) else type(error).__name__
    try:
        shown = repr(value)
    except Exception as error:
        shown = "its repr raised " + type(error).__name__
    if len(shown) > ${REPR_MAX}:
        shown = shown[:${REPR_MAX}] + "..."
    print("The value is not JSON (" + why + "): " + shown, file=sys.stderr)
    return {}

def _own_lines(error):
    """The traceback from the first line of the task on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    return error.with_traceback(trace)

def _limit(error):
    if isinstance(error, MemoryError):
        return {"limit": "memoryMiB"}
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return {"limit": "fileBytes"}
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return {"limit": "diskBytes"}
    return {}

def _exit(error):
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xFF
    print(code, file=sys.stderr)
    return 1

async def _end_others():
    own = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not own]
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=${CANCEL_S})

async def run(text):
    task = json.loads(text)
    random.seed()
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir("/work")
    if "/work" not in sys.path:
        sys.path.insert(0, "/work")
    sys.argv = [NAME, *task["args"]]
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    code = task["code"]
    linecache.cache[NAME] = (len(code), None, code.splitlines(True), NAME)
    end = {"code": 0}
    try:
        runner = CodeRunner(code, filename=NAME, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).compile()
        value = await runner.run_async(MAIN)
        end.update(_value(value, task["valueBytes"]))
        value = None
    except SystemExit as error:
        end["code"] = _exit(error)
    except BaseException as error:
        end["code"] = 1
        end.update(_limit(error))
        try:
            traceback.print_exception(_own_lines(error))
        except Exception:
            print(type(error).__name__, file=sys.stderr)
    try:
        await _end_others()
    except Exception as error:
        print("Tasks of asyncio that were left could not be ended: " + type(error).__name__, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            end["code"] = end["code"] or 1
    return json.dumps(end)
`;
