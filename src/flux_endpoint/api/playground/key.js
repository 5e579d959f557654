// The API key: in this browser's localStorage and nowhere else. It goes to the server in the Authorization header only.

const NAME = "flux-endpoint.key";

export const key = {
  get: () => localStorage.getItem(NAME) ?? "",
  set(value) {
    localStorage.setItem(NAME, value);
    dispatchEvent(new Event("keychange"));
  },
  forget() {
    localStorage.removeItem(NAME);
    dispatchEvent(new Event("keychange"));
  },
};

// Somebody signs in or out, in whichever tab.
export function signedIn() {
  return new Promise((resolve) => {
    const others = new AbortController();
    for (const name of ["keychange", "storage"]) {
      const heard = (event) => {
        if (event.key !== undefined && event.key !== NAME) return;
        others.abort();
        resolve();
      };
      addEventListener(name, heard, { signal: others.signal });
    }
  });
}

// Whoever is signed in is asked: with the key of somebody else's link, their pictures would be that one's.
function mayReplace(value) {
  const end = (secret) => `…${secret.slice(-4)}`;
  const question = `This link signs in with another API key (${end(value)}). Use it instead of the one in this browser (${end(key.get())})?`;
  return !key.get() || key.get() === value || confirm(question);
}

// The link that the server prints carries the key in its fragment, which browsers never send. It is taken out of the
// address at once, before anything else can read, share or bookmark it.
export function takeKeyFromAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const value = fragment.get("key");
  if (value === null) return false;
  fragment.delete("key");
  const rest = fragment.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  if (value && mayReplace(value)) key.set(value);
  return true;
}
