// A store in one direction: actions go in, a pure reducer makes the next state,
// listeners see it once per microtask however many actions came.

export interface Store<S, A> {
  get(): S;
  dispatch(action: A): void;
  subscribe(listener: (state: S) => void): () => void;
}

export function createStore<S, A>(initial: S, reduce: (state: S, action: A) => S): Store<S, A> {
  let state = initial;
  let told = initial;
  let scheduled = false;
  const listeners = new Set<(state: S) => void>();

  const tell = () => {
    scheduled = false;
    if (state === told) return;
    told = state;
    for (const listener of [...listeners]) listener(state);
  };

  return {
    get: () => state,
    dispatch(action) {
      state = reduce(state, action);
      if (scheduled || state === told) return;
      scheduled = true;
      queueMicrotask(tell);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
