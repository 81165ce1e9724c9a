// Counts the lines of the files that a step works on.

import { Step, cancelled, log } from 'cooperage:plugin/events@0.1.0';
import { get, set } from 'cooperage:plugin/state@0.1.0';
import { Tree } from 'cooperage:plugin/trees@0.1.0';

// Bytes per call of the host: large enough that the call itself does not count.
const CHUNK = 256 * 1024;

// What `with:` of the step takes. The host checks it before the plugin runs, and fills in the defaults.
const PARAMETERS = {
  type: 'object',
  additionalProperties: false,
  properties: {
    directory: { type: 'string', default: '/', description: 'Directory of the input to count in.' },
    suffix: { type: 'string', default: '', description: 'Only files whose name ends so; all files by default.' },
  },
};

export const plugin = {
  describe() {
    return {
      name: 'my-plugin',
      version: '0.1.0',
      summary: 'Counts the lines of files',
      parameters: [['task', JSON.stringify(PARAMETERS)]],
      capabilities: [
        {
          class: 'state',
          request: 'true',
          reason: 'to tell by how many lines the input has grown since the last run',
        },
      ],
      provides: [],
      annotations: [['org.opencontainers.image.licenses', 'Apache-2.0']],
    };
  },
};

export const task = {
  run: guarded((request) => {
    const { directory, suffix } = JSON.parse(request.parameters);
    // The empty name is the step's `in`.
    const input = new Map(request.inputs).get('');
    if (!input) {
      throw fault('invalid-input', 'the step has no input', 'name the step it works on with `in:`');
    }
    const paths = files(input, directory, suffix);

    const step = new Step('count');
    let total = 0;
    let list = '';
    try {
      paths.forEach((path, index) => {
        if (cancelled()) throw fault('cancelled', 'the call was cancelled');
        const lines = count(input, path);
        list += `${lines} ${path}\n`;
        total += lines;
        // What is u64 in the contract is a BigInt here.
        step.progress(BigInt(index + 1), BigInt(paths.length), 'items');
      });
    } finally {
      release(step);
    }
    log('info', `${total} lines in ${paths.length} files`);

    // `name` is shown while it runs, `createdBy` in the history of an image; `location` can be left out.
    const origin = { name: 'write lines.txt', createdBy: 'write lines.txt' };
    const tree = Tree.scratch().writeFile('/lines.txt', new TextEncoder().encode(list), 0o644, undefined, origin);
    const values = { files: paths.length, lines: total, growth: growth(`${directory} ${suffix}`, total) };
    return { values: Object.entries(values).map(([name, value]) => [name, JSON.stringify(value)]), tree };
  }),
};

// The paths of the files below a directory whose names end so.
function files(input, directory, suffix) {
  let found;
  try {
    found = input.walk(directory);
  } catch (error) {
    // The host says what is wrong; what to do about it is known here. `payload` is the error of the contract.
    if (error.payload) error.payload.hint ??= "name a directory of the step's input in `directory`";
    throw error;
  }
  const paths = found
    .filter(([info]) => info.kind === 'regular' && info.path.endsWith(suffix))
    .map(([info]) => info.path);
  if (paths.length === 0) {
    const message = `no file below ${directory} has a name that ends in "${suffix}"`;
    throw fault('not-found', message, 'mend `directory` or `suffix`');
  }
  return paths;
}

function count(input, path) {
  const reader = input.open(path);
  try {
    let lines = 0;
    for (;;) {
      const chunk = reader.read(CHUNK);
      if (chunk.length === 0) return lines;
      for (const byte of chunk) if (byte === 10) lines += 1;
    }
  } finally {
    release(reader);
  }
}

// By how much the number under a key has grown. What is kept may be lost at any time: then it has not grown.
function growth(key, lines) {
  const before = get(key);
  set(key, new TextEncoder().encode(String(lines)), undefined);
  return before ? lines - Number(new TextDecoder().decode(before)) : 0;
}

// Gives a handle of the host back now; otherwise it is kept until the call ends.
function release(resource) {
  resource[Symbol.dispose]();
}

// An exception of JavaScript would reach the user without its message: here it becomes an error of the contract. Errors
// of the host have theirs in `payload`.
function guarded(work) {
  return (...given) => {
    try {
      return work(...given);
    } catch (error) {
      if (!(error instanceof Error) || error.payload) throw error;
      throw fault('internal', String(error), undefined, error.stack.trim().split('\n'));
    }
  };
}

// An error for the user.
function fault(kind, message, hint, context = []) {
  return { kind, message, context, hint };
}
