// Packs a directory of web pages into an image that has nothing else.

import { log } from 'cooperage:plugin/events@0.1.0';
import { Tree } from 'cooperage:plugin/trees@0.1.0';

const INDEX = 'index.html';

// What the user can set. The host checks it before the plugin runs, and fills in the defaults.
const PARAMETERS = {
  type: 'object',
  additionalProperties: false,
  properties: {
    pages: { type: 'string', default: '/', description: 'Directory of the context with the pages.' },
    to: { type: 'string', default: '/www', description: 'Where the image has them.' },
  },
};

export const plugin = {
  describe() {
    return {
      name: 'my-plugin',
      version: '0.1.0',
      summary: 'Builds images of web pages',
      parameters: [['builder', JSON.stringify(PARAMETERS)]],
      // The context and operations on trees need no permission. Whatever else does is asked for here:
      // { class: 'http', request: '["https://api.example"]', reason: 'to ...' }
      capabilities: [],
      provides: [],
      annotations: [['org.opencontainers.image.licenses', 'Apache-2.0']],
    };
  },
};

export const builder = {
  // How well this builder fits the context, up to 100.
  detect: guarded(() => (context().stat(`/${INDEX}`, true) ? 50 : 0)),

  build: guarded((request) => {
    const { pages: named, to } = JSON.parse(request.parameters);
    const pages = named.replace(/\/+$/, '');
    const source = context();
    if (!source.stat(`${pages}/${INDEX}`, true)) {
      throw fault('not-found', `the context has no ${pages}/${INDEX}`, 'name the directory of the pages in `pages`');
    }
    const number = source.walk(pages || '/').filter(([info]) => info.kind === 'regular').length;
    log('info', `${number} files for ${to}`);

    // Only described: the host copies when it makes the image, unless it has the same from before.
    const name = `copy ${number} files to ${to}`;
    // `name` is shown while it runs, `createdBy` in the history of the image; `location` can be left out.
    const origin = { name, createdBy: name };
    // Two more can be left out: `owner` ('user:group') and `mode` ('644', 'u+x'); files then belong to root and keep
    // their permissions. The `options` within are room for later versions.
    const options = { exclude: [], parents: false, link: false, unpack: false, options: [] };
    return request.platforms.map((platform) => {
      const tree = Tree.scratch().copy(source, [pages || '/'], `${to}/`, options, origin);
      const config = { config: { WorkingDir: to, Labels: Object.fromEntries(request.labels) } };
      return { tree, platform, config: JSON.stringify(config), annotations: [] };
    });
  }),
};

// The main context, all of it.
function context() {
  return Tree.context('', { include: [], exclude: [] });
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
