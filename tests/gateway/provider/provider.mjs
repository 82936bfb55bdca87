// A certified OpenID Connect provider on loopback, with its own development login pages.
// node provider.mjs PORT CALLBACK  prints "ready" once it listens. Any password is right; alice is in admins.
import { Provider } from 'oidc-provider';

const [port, callback] = process.argv.slice(2);
const accounts = { alice: ['admins', 'ops'], bob: ['ops'] };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'deadhop', client_secret: 'a-secret-of-the-tests', redirect_uris: [callback],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  claims: { openid: ['sub'], profile: ['name', 'groups'], email: ['email'] },
  pkce: { required: () => true },
  cookies: { keys: ['only for the tests'] },
  async findAccount(ctx, id) {
    return {
      accountId: id,
      claims: async () => ({ sub: id, name: `The ${id}`, email: `${id}@example.com`, groups: accounts[id] ?? [] }),
    };
  },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
