// What every screen and every part of one is: an element that follows the state.

import type { State } from '../state';

export interface View {
  readonly element: HTMLElement;
  update(state: State): void;
  close?(): void;
}
