// Every text a person can read, in every language we speak, and the choice of
// the language. Text is a branded string: the DOM helper takes nothing else, so
// a literal cannot reach the page without passing through this table.

declare const brand: unique symbol;
export type Text = string & { readonly [brand]: true };

export const languages = { en: 'English', ja: '日本語' } as const;
export type Language = keyof typeof languages;

const en = {
  'app.name': 'Sotto',
  'app.tagline': 'Meetings that stay between you.',
  'app.lead': 'Talk, see each other and share a screen, on a server of your own. No account, nothing to install.',
  'app.language': 'Language',

  'start.name': 'Your name',
  'start.name.placeholder': 'How others will see you',
  'start.new': 'New meeting',
  'start.creating': 'Opening…',
  'start.or': 'or join one',
  'start.link': 'Meeting link',
  'start.link.placeholder': 'Paste a link or code',
  'start.join': 'Join',
  'start.link.bad': 'This does not look like a meeting link.',
  'start.owner': 'Owner token',
  'start.owner.help': 'This server lets only its owner open meetings. The token was printed when the server started.',
  'start.point.link': 'One link to join',
  'start.point.yours': 'Runs on your own server',
  'start.point.clear': 'Clear voice first',

  'pre.title': 'Ready to join?',
  'pre.room': 'Meeting {room}',
  'pre.join': 'Join meeting',
  'pre.joining': 'Joining…',
  'pre.camera.off': 'Your camera is off',
  'pre.camera.starting': 'Starting the camera…',
  'pre.camera.none': 'No picture from the camera',
  'pre.level': 'Microphone level',
  'pre.name.missing': 'Please tell us your name first.',

  'device.microphone': 'Microphone',
  'device.camera': 'Camera',
  'device.speaker': 'Speaker',
  'device.default': 'System default',
  'device.unnamed': '{kind} {number}',
  'device.none': 'None found',
  'device.denied.microphone': 'The microphone is blocked.',
  'device.denied.camera': 'The camera is blocked.',
  'device.denied.screen': 'The screen was not shared.',
  'device.denied.hint': 'Allow it in the address bar of your browser, then try again.',
  'device.missing.microphone': 'No microphone was found.',
  'device.missing.camera': 'No camera was found.',
  'device.missing.screen': 'This browser cannot share a screen.',
  'device.missing.hint': 'You can join without it and plug it in later.',
  'device.busy.microphone': 'The microphone is used by another program.',
  'device.busy.camera': 'The camera is used by another program.',
  'device.busy.screen': 'The screen could not be captured.',
  'device.busy.hint': 'Close the other program, then try again.',
  'device.ended.microphone': 'The microphone was disconnected.',
  'device.ended.camera': 'The camera was disconnected.',

  'control.bar': 'Meeting controls',
  'control.mic.mute': 'Mute',
  'control.mic.unmute': 'Unmute',
  'control.camera.stop': 'Stop camera',
  'control.camera.start': 'Start camera',
  'control.share.start': 'Share screen',
  'control.share.stop': 'Stop sharing',
  'control.chat': 'Chat',
  'control.chat.unread': 'Chat, {count} new',
  'control.people': 'People',
  'control.people.count': 'People, {count} here',
  'control.copy': 'Copy link',
  'control.settings': 'Settings',
  'control.record.start': 'Record',
  'control.record.stop': 'Stop recording',
  'control.leave': 'Leave',
  'control.close': 'Close',
  'control.withKey': '{label} ({key})',

  'meeting.stage': 'Participants',
  'meeting.alone.title': 'You are the first one here',
  'meeting.alone.text': 'Send this link to the people you want to talk to.',
  'meeting.you': '{name} (you)',
  'meeting.screenOf': '{name}’s screen',
  'meeting.sharing': 'You are sharing your screen',
  'meeting.more': '{count} more',
  'meeting.muted': 'Muted',
  'meeting.host': 'Host',
  'meeting.away': 'Reconnecting…',
  'meeting.quality.fair': 'Unsteady connection',
  'meeting.quality.poor': 'Bad connection',
  'meeting.pin': 'Keep {name} large',
  'meeting.unpin': 'Keep {name} large no more',
  'meeting.sound.blocked': 'Your browser keeps the sound off.',
  'meeting.sound.on': 'Turn sound on',
  'meeting.recording': 'Recording',
  'meeting.recording.said': 'This meeting is being recorded',

  'link.joining': 'Joining…',
  'link.resuming': 'Connection lost. Reconnecting…',
  'link.rejoining': 'Rejoining the meeting…',
  'link.closing': 'The server is restarting. You will be back in a moment…',
  'link.media': 'Sound and picture are interrupted. Reconnecting…',
  'link.connecting': 'Connecting sound and picture…',

  'people.title': 'People',
  'people.count.one': '{count} person',
  'people.count.other': '{count} people',
  'people.mute': 'Mute {name}',
  'people.remove': 'Remove {name}',
  'people.remove.ask': 'Remove {name} from the meeting?',
  'people.remove.yes': 'Remove',
  'people.remove.no': 'Cancel',
  'people.sharing': 'Sharing a screen',
  'people.invite': 'Copy invitation link',

  'chat.title': 'Chat',
  'chat.empty.title': 'No messages yet',
  'chat.empty.text': 'What you write is seen by everybody in the meeting and is gone when it ends.',
  'chat.placeholder': 'Write to everybody',
  'chat.send': 'Send',
  'chat.you': 'You',
  'chat.long': 'This message is too long.',

  'settings.title': 'Settings',
  'settings.devices': 'Devices',
  'settings.keys': 'Keyboard',
  'settings.done': 'Done',

  'key.mic': 'Mute or unmute',
  'key.camera': 'Camera on or off',
  'key.share': 'Share a screen',
  'key.chat': 'Open the chat',
  'key.people': 'Show the people',
  'key.copy': 'Copy the link',
  'key.settings': 'Settings',
  'key.escape': 'Close a panel',

  'notice.joined': '{name} joined',
  'notice.left': '{name} left',
  'notice.removed': '{name} was removed',
  'notice.copied': 'Link copied',
  'notice.copy.failed': 'The link could not be copied: {link}',
  'notice.mutedByHost': 'The host muted you. Unmute when you want to speak.',
  'notice.cameraStoppedByHost': 'The host stopped your camera.',
  'notice.shareStoppedByHost': 'The host stopped your screen share.',
  'notice.back': 'You are connected again',
  'notice.chat': '{name}: {text}',
  'notice.recording.stopped': 'The recording has ended',
  'notice.recording.full': 'The recording has ended: the server has no room for more.',
  'notice.recording.failed': 'The recording has ended: the server cannot write it.',

  'over.left.title': 'You left the meeting',
  'over.left.text': 'You can come back as long as the meeting is open.',
  'over.removed.title': 'You were removed from the meeting',
  'over.removed.text': 'The host ended your part in this meeting.',
  'over.ended.title': 'The meeting has ended',
  'over.ended.text': 'Thank you for being here.',
  'over.replaced.title': 'This meeting continues elsewhere',
  'over.replaced.text': 'You opened the same seat in another window or tab.',
  'over.failed.title': 'You could not be connected',
  'over.rejoin': 'Join again',
  'over.retry': 'Try again',
  'over.home': 'Back to start',

  'error.bad_request': 'The server did not understand this page.',
  'hint.bad_request': 'Reload the page to get its current version.',
  'error.unsupported_version': 'This page is older than the server.',
  'hint.unsupported_version': 'Reload the page to get its current version.',
  'error.unauthorized': 'You need permission to do this.',
  'hint.unauthorized': 'Check the token or ask whoever runs the server.',
  'error.token_expired': 'The invitation ran out.',
  'hint.token_expired': 'Open the meeting link again.',
  'error.forbidden': 'You are not allowed to do this.',
  'hint.forbidden': 'Ask the host of the meeting.',
  'error.room_closed': 'This meeting is closed.',
  'hint.room_closed': 'Ask the host for a new link.',
  'error.room_full': 'This meeting is full.',
  'hint.room_full': 'Try again when somebody has left.',
  'error.not_found': 'There is no such meeting.',
  'hint.not_found': 'Check the link: it has to be complete.',
  'error.too_large': 'This is too large to send.',
  'hint.too_large': 'Make it shorter and try again.',
  'error.rate_limited': 'That was too fast.',
  'hint.rate_limited': 'Wait a moment and try again.',
  'error.too_many': 'The limit of this meeting is reached.',
  'hint.too_many': 'Stop something else first, or ask whoever runs the server.',
  'error.conflict': 'Somebody else was faster.',
  'hint.conflict': 'Look at the meeting and try again.',
  'error.stale_offer': 'The connection changed in between.',
  'hint.stale_offer': 'It mends itself; nothing to do.',
  'error.session_gone': 'Your seat in the meeting was given up.',
  'hint.session_gone': 'Join again.',
  'error.internal': 'Something went wrong in the server.',
  'hint.internal': 'Try again. If it stays, tell whoever runs the server.',
  'error.unsupported_codec': 'Your browser and the server share no video format.',
  'hint.unsupported_codec': 'Update the browser or use another one.',
  'error.network': 'The server cannot be reached.',
  'hint.network': 'Check your network, then try again.',
  'error.interrupted': 'The connection dropped meanwhile.',
  'hint.interrupted': 'Try again in a moment.',
  'error.media': 'Sound and picture could not be connected.',
  'hint.media': 'A firewall may block UDP. Try another network.',
  'error.insecure': 'This page was not opened over https.',
  'hint.insecure': 'Browsers give camera and microphone to https pages only. Open the https address of the server.',
} as const;

export type Key = keyof typeof en;

const ja: Record<Key, string> = {
  'app.name': 'Sotto',
  'app.tagline': '話したことは、ここにいる人だけに。',
  'app.lead': '声も、顔も、画面の共有も、自分たちのサーバーで。アカウントもインストールも要りません。',
  'app.language': '言語',

  'start.name': 'お名前',
  'start.name.placeholder': '参加者に表示される名前',
  'start.new': '会議を始める',
  'start.creating': '準備中…',
  'start.or': 'または参加する',
  'start.link': '会議のリンク',
  'start.link.placeholder': 'リンクまたはコードを貼り付け',
  'start.join': '参加',
  'start.link.bad': '会議のリンクではないようです。',
  'start.owner': '所有者トークン',
  'start.owner.help': 'このサーバーで会議を開けるのは所有者だけです。トークンはサーバーの起動時に表示されています。',
  'start.point.link': 'リンクを送るだけ',
  'start.point.yours': '自分のサーバーで動く',
  'start.point.clear': '声がはっきり届く',

  'pre.title': '参加の準備はできましたか？',
  'pre.room': '会議 {room}',
  'pre.join': '会議に参加',
  'pre.joining': '参加しています…',
  'pre.camera.off': 'カメラはオフです',
  'pre.camera.starting': 'カメラを起動しています…',
  'pre.camera.none': 'カメラの映像がありません',
  'pre.level': 'マイクの音量',
  'pre.name.missing': '先にお名前を入力してください。',

  'device.microphone': 'マイク',
  'device.camera': 'カメラ',
  'device.speaker': 'スピーカー',
  'device.default': 'システムの既定',
  'device.unnamed': '{kind} {number}',
  'device.none': '見つかりません',
  'device.denied.microphone': 'マイクの使用が許可されていません。',
  'device.denied.camera': 'カメラの使用が許可されていません。',
  'device.denied.screen': '画面は共有されませんでした。',
  'device.denied.hint': 'ブラウザーのアドレスバーで許可してから、もう一度お試しください。',
  'device.missing.microphone': 'マイクが見つかりません。',
  'device.missing.camera': 'カメラが見つかりません。',
  'device.missing.screen': 'このブラウザーでは画面を共有できません。',
  'device.missing.hint': 'このまま参加して、あとから接続することもできます。',
  'device.busy.microphone': 'マイクは別のアプリで使用中です。',
  'device.busy.camera': 'カメラは別のアプリで使用中です。',
  'device.busy.screen': '画面を取得できませんでした。',
  'device.busy.hint': '別のアプリを閉じてから、もう一度お試しください。',
  'device.ended.microphone': 'マイクが取り外されました。',
  'device.ended.camera': 'カメラが取り外されました。',

  'control.bar': '会議の操作',
  'control.mic.mute': 'ミュート',
  'control.mic.unmute': 'ミュート解除',
  'control.camera.stop': 'カメラを停止',
  'control.camera.start': 'カメラを開始',
  'control.share.start': '画面を共有',
  'control.share.stop': '共有を停止',
  'control.chat': 'チャット',
  'control.chat.unread': 'チャット、未読 {count} 件',
  'control.people': '参加者',
  'control.people.count': '参加者 {count} 人',
  'control.copy': 'リンクをコピー',
  'control.settings': '設定',
  'control.record.start': '録画',
  'control.record.stop': '録画を停止',
  'control.leave': '退出',
  'control.close': '閉じる',
  'control.withKey': '{label}（{key}）',

  'meeting.stage': '参加者の映像',
  'meeting.alone.title': 'まだ誰もいません',
  'meeting.alone.text': '話したい相手に、このリンクを送ってください。',
  'meeting.you': '{name}（自分）',
  'meeting.screenOf': '{name} さんの画面',
  'meeting.sharing': '画面を共有しています',
  'meeting.more': 'ほか {count} 人',
  'meeting.muted': 'ミュート中',
  'meeting.host': '主催者',
  'meeting.away': '再接続中…',
  'meeting.quality.fair': '接続がやや不安定です',
  'meeting.quality.poor': '接続が不安定です',
  'meeting.pin': '{name} を大きく固定',
  'meeting.unpin': '{name} の固定を解除',
  'meeting.sound.blocked': 'ブラウザーが音声を止めています。',
  'meeting.sound.on': '音声を出す',
  'meeting.recording': '録画中',
  'meeting.recording.said': 'このミーティングは録画されています',

  'link.joining': '参加しています…',
  'link.resuming': '接続が切れました。再接続しています…',
  'link.rejoining': '会議に入り直しています…',
  'link.closing': 'サーバーが再起動しています。まもなく戻ります…',
  'link.media': '音声と映像が途切れています。再接続しています…',
  'link.connecting': '音声と映像を接続しています…',

  'people.title': '参加者',
  'people.count.one': '{count} 人',
  'people.count.other': '{count} 人',
  'people.mute': '{name} さんをミュート',
  'people.remove': '{name} さんを退出させる',
  'people.remove.ask': '{name} さんを会議から退出させますか？',
  'people.remove.yes': '退出させる',
  'people.remove.no': 'キャンセル',
  'people.sharing': '画面を共有中',
  'people.invite': '招待リンクをコピー',

  'chat.title': 'チャット',
  'chat.empty.title': 'メッセージはまだありません',
  'chat.empty.text': '書いた内容は会議の全員に表示され、会議が終わると消えます。',
  'chat.placeholder': '全員へのメッセージ',
  'chat.send': '送信',
  'chat.you': '自分',
  'chat.long': 'メッセージが長すぎます。',

  'settings.title': '設定',
  'settings.devices': '機器',
  'settings.keys': 'キーボード',
  'settings.done': '完了',

  'key.mic': 'ミュートの切り替え',
  'key.camera': 'カメラの切り替え',
  'key.share': '画面を共有',
  'key.chat': 'チャットを開く',
  'key.people': '参加者を表示',
  'key.copy': 'リンクをコピー',
  'key.settings': '設定',
  'key.escape': 'パネルを閉じる',

  'notice.joined': '{name} さんが参加しました',
  'notice.left': '{name} さんが退出しました',
  'notice.removed': '{name} さんは退出させられました',
  'notice.copied': 'リンクをコピーしました',
  'notice.copy.failed': 'リンクをコピーできませんでした：{link}',
  'notice.mutedByHost': '主催者があなたをミュートしました。話すときは解除してください。',
  'notice.cameraStoppedByHost': '主催者があなたのカメラを停止しました。',
  'notice.shareStoppedByHost': '主催者が画面の共有を停止しました。',
  'notice.back': '再び接続されました',
  'notice.chat': '{name}：{text}',
  'notice.recording.stopped': '録画が終了しました',
  'notice.recording.full': '録画が終了しました。サーバーに空き容量がありません。',
  'notice.recording.failed': '録画が終了しました。サーバーが書き込めません。',

  'over.left.title': '会議から退出しました',
  'over.left.text': '会議が開いている間は、いつでも戻れます。',
  'over.removed.title': '会議から退出させられました',
  'over.removed.text': '主催者があなたの参加を終了しました。',
  'over.ended.title': '会議は終了しました',
  'over.ended.text': 'ご参加ありがとうございました。',
  'over.replaced.title': 'この会議は別の場所で続いています',
  'over.replaced.text': '同じ席が別のウィンドウまたはタブで開かれました。',
  'over.failed.title': '接続できませんでした',
  'over.rejoin': 'もう一度参加',
  'over.retry': '再試行',
  'over.home': '最初に戻る',

  'error.bad_request': 'サーバーがこのページの要求を理解できませんでした。',
  'hint.bad_request': 'ページを再読み込みしてください。',
  'error.unsupported_version': 'このページはサーバーより古いようです。',
  'hint.unsupported_version': 'ページを再読み込みしてください。',
  'error.unauthorized': 'この操作には許可が必要です。',
  'hint.unauthorized': 'トークンを確かめるか、サーバーの管理者に問い合わせてください。',
  'error.token_expired': '招待の期限が切れました。',
  'hint.token_expired': '会議のリンクをもう一度開いてください。',
  'error.forbidden': 'この操作は許可されていません。',
  'hint.forbidden': '会議の主催者に依頼してください。',
  'error.room_closed': 'この会議は終了しています。',
  'hint.room_closed': '主催者に新しいリンクをもらってください。',
  'error.room_full': 'この会議は満員です。',
  'hint.room_full': '誰かが退出してからお試しください。',
  'error.not_found': 'この会議は存在しません。',
  'hint.not_found': 'リンクが最後まで正しいか確かめてください。',
  'error.too_large': '大きすぎて送れません。',
  'hint.too_large': '短くしてからお試しください。',
  'error.rate_limited': '操作が速すぎます。',
  'hint.rate_limited': '少し待ってからお試しください。',
  'error.too_many': '会議の上限に達しました。',
  'hint.too_many': 'ほかの共有を止めるか、サーバーの管理者に問い合わせてください。',
  'error.conflict': '先にほかの操作が行われました。',
  'hint.conflict': '会議の様子を確かめてからお試しください。',
  'error.stale_offer': '接続の状態が変わりました。',
  'hint.stale_offer': '自動的に直ります。',
  'error.session_gone': '会議の席が解放されました。',
  'hint.session_gone': 'もう一度参加してください。',
  'error.internal': 'サーバーで問題が起きました。',
  'hint.internal': 'もう一度お試しください。続く場合は管理者に知らせてください。',
  'error.unsupported_codec': 'ブラウザーとサーバーに共通の映像形式がありません。',
  'hint.unsupported_codec': 'ブラウザーを更新するか、別のものをお使いください。',
  'error.network': 'サーバーに接続できません。',
  'hint.network': 'ネットワークを確かめてから、もう一度お試しください。',
  'error.interrupted': '途中で接続が切れました。',
  'hint.interrupted': '少し待ってからお試しください。',
  'error.media': '音声と映像を接続できませんでした。',
  'hint.media': 'ファイアウォールが UDP を遮断している可能性があります。別のネットワークをお試しください。',
  'error.insecure': 'このページは https で開かれていません。',
  'hint.insecure': 'カメラとマイクは https のページでのみ使えます。サーバーの https のアドレスを開いてください。',
};

export const tables: Record<Language, Record<Key, string>> = { en, ja };

let current: Language = 'en';

export function language(): Language {
  return current;
}

export function setLanguage(l: Language): void {
  current = l;
}

/** The wish (?lang= or a saved choice) if we speak it, else the first language of the browser that we speak, else English. */
export function pickLanguage(wish: string | null, preferred: readonly string[]): Language {
  for (const tag of [wish ?? '', ...preferred]) {
    const base = tag.toLowerCase().split('-')[0] ?? '';
    if (base in tables) return base as Language;
  }
  return 'en';
}

/** The text of a key in the chosen language, with {placeholders} filled in. */
export function t(key: Key, values?: Record<string, string | number>): Text {
  const text = tables[current][key];
  if (!values) return text as Text;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) as Text;
}

/** Text that comes from people or devices, not from us: a name, a message, a label. */
export function raw(s: string): Text {
  return s as Text;
}

/** The message and hint of an error code; an unknown code reads as internal. */
export function errorText(code: string): { message: Text; hint: Text } {
  const known = `error.${code}` in en ? code : 'internal';
  return { message: t(`error.${known}` as Key), hint: t(`hint.${known}` as Key) };
}

/** How many people, in words. */
export function countPeople(count: number): Text {
  return t(count === 1 ? 'people.count.one' : 'people.count.other', { count });
}

/** A time of day as people of this language write it. */
export function clock(at: Date): Text {
  return at.toLocaleTimeString(current, { hour: '2-digit', minute: '2-digit' }) as Text;
}
