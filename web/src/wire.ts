// Code generated from the Go types in signaling/wire by "go generate ./signaling/wire". DO NOT EDIT.

/** Protocol version that join and resume must name. */
export const protocolVersion = 1;
/** WebSocket subprotocol. */
export const subprotocol = "sotto.v1";

/** Limits that are the same on every server; the others come with join.ok. */
export const limits = {
  frameBytes: 65536,
  chatBytes: 2048,
  nameChars: 64,
  publications: 8,
  tracksPerRequest: 64,
  viewPixels: 16384,
} as const;

/** Codes of the WebSocket close frame. */
export const closeCodes = {
  /** after leave */
  normal: 1000,
  /** the server stops; see the closing event before it */
  goingAway: 1001,
  /** too many malformed or refused requests, or no join in time */
  violation: 1008,
  /** a frame far above the limit */
  tooBig: 1009,
  /** another socket resumed this session; do not reconnect */
  takenOver: 4001,
  /** the client read too slowly; resume */
  slow: 4002,
  /** removed by a host, or the room was closed; see the removed event before it */
  removed: 4003,
  /** the session ended on the server; join again */
  expired: 4004,
} as const;

// Requests, sent with an id by the client.

/** JoinRequest takes a seat in the room that the token names. It is the first request of a socket, as Resume is. */
export interface JoinRequest {
  type: "join";
  /** Protocol version of the client: 1. */
  version: number;
  /** Join token from POST /api/v1/meetings/{room}/token. At most 2048 bytes. */
  token: string;
  /** Name shown to the others; not empty, no control characters. At most 64 characters. */
  name: string;
  /**
   * What is published at once, so that the first offer has room for it. The sections of the first offer are in this
   * order. At most 8 items.
   */
  publish?: Publication[];
  /**
   * Wants data channels: the first offer has a section for them, if the server has any and lets the participant
   * (docs/data.md).
   */
  data?: boolean;
  /** Software of the client, such as "web/1"; goes to the server's log only. At most 64 characters. */
  client?: string;
}

/** Publication is one track that a client wants to send. */
export interface Publication {
  source: Source;
  /**
   * Preferred codec: "opus" for sound; "vp8", "vp9", "h264" or "av1" for pictures. Left out, the server chooses. At
   * most 16 characters.
   */
  codec?: string;
  /** Send three resolutions at once; pictures only. */
  simulcast?: boolean;
  /** Start muted. */
  muted?: boolean;
  /**
   * Encrypted end to end: sound is then not asked for with redundancy, which the server would have to take off for
   * some, and recordings keep it as it came.
   */
  encrypted?: boolean;
}

/** Source says what a track shows. */
export type Source =
  | "microphone"
  | "camera"
  | "screen"
  | "screen-audio";

/**
 * ResumeRequest takes the seat of an earlier socket back, within resumeWindowMs of its loss. It also takes the seat
 * from a socket that still lives, which is then closed with code 4001.
 */
export interface ResumeRequest {
  type: "resume";
  /** Protocol version of the client: 1. */
  version: number;
  /** From join.ok. At most 64 bytes. */
  session: string;
  /** From join.ok. At most 128 bytes. */
  resumeToken: string;
  /** The seq of the last event that the client has seen; 0 if none. */
  lastSeq: number;
}

/** PublishRequest announces new tracks. An offer with a section for each follows. */
export interface PublishRequest {
  type: "publish";
  /** What to publish, one to eight. At most 8 items. */
  publications: Publication[];
}

/** UnpublishRequest ends own tracks. Their sections become free for later publications. */
export interface UnpublishRequest {
  type: "unpublish";
  /** Own tracks. At most 64 items. */
  tracks: string[];
}

/**
 * SubscribeRequest asks for tracks of others. Tracks already subscribed stay as they are. A slots event says where they
 * play.
 */
export interface SubscribeRequest {
  type: "subscribe";
  /** Tracks of others. At most 64 items. */
  tracks: string[];
}

/** UnsubscribeRequest gives tracks of others up. Unknown tracks are ignored. */
export interface UnsubscribeRequest {
  type: "unsubscribe";
  /** Tracks of others. At most 64 items. */
  tracks: string[];
}

/**
 * ViewRequest says how the client shows tracks of others, so that no more of them is sent than can be seen. Tracks that
 * are not named stay as they were; one that was never named counts as shown large. Unknown tracks are ignored.
 */
export interface ViewRequest {
  type: "view";
  /** Tracks of others that are shown differently from before. At most 64 items. */
  views: TrackView[];
  /** Most pictures wanted at a time; left out, as before. The server has a bound of its own, and chooses. */
  videos?: number;
}

/** TrackView says how a track is shown. */
export interface TrackView {
  /** A track of somebody else. */
  track: string;
  /** Width in pixels of the screen, at most 16384; 0: it cannot be seen, and its pictures are not sent. */
  width: number;
  /** Height in pixels of the screen, at most 16384. */
  height: number;
  /** It is to be seen well before others are. */
  pinned?: boolean;
}

/**
 * DataRequest asks for data channels later than at the join: the next offer has a section for them (docs/data.md). Who
 * has some keeps them.
 */
export interface DataRequest {
  type: "data";
}

/** AnswerRequest answers an offer. One offer is outstanding at a time, and the client never offers by itself. */
export interface AnswerRequest {
  type: "answer";
  /** The number of the offer. */
  number: number;
  /** The answer that setLocalDescription took; candidates need not be in it. At most 65536 bytes. */
  sdp: string;
}

/** MuteRequest mutes or unmutes an own track. The server stops forwarding at once; no offer is needed. */
export interface MuteRequest {
  type: "mute";
  /** An own track. At most 64 bytes. */
  track: string;
  /** The state wanted. */
  muted: boolean;
}

/**
 * ModerateRequest is for hosts: it mutes another participant's track, until its owner unmutes it, lets nothing more of
 * a participant's data through, or removes a participant.
 */
export interface ModerateRequest {
  type: "moderate";
  action: Action;
  /** Whom it is about. At most 64 bytes. */
  participant: string;
  /** Action mute: the track to mute; left out, every audio track of the participant. At most 64 bytes. */
  track?: string;
}

/** Action says what a host does. */
export type Action =
  | "mute"
  | "remove"
  | "mute-data"
  | "unmute-data";

/**
 * RecordStartRequest is for hosts: the server records the meeting from now on, and tells everybody by the event
 * recording.
 */
export interface RecordStartRequest {
  type: "record.start";
}

/** RecordStopRequest is for hosts: it ends the recording. */
export interface RecordStopRequest {
  type: "record.stop";
}

/** ChatRequest sends a line of text to everybody in the room. */
export interface ChatRequest {
  type: "chat";
  /** The text, not empty. At most 2048 bytes. */
  text: string;
}

/** RestartRequest says that the client's network has changed. An offer with new ICE credentials follows. */
export interface RestartRequest {
  type: "restart";
}

/** LeaveRequest gives the seat up at once. The server closes the socket with code 1000 after its reply. */
export interface LeaveRequest {
  type: "leave";
}

/** PingRequest asks whether the server is still there; browsers cannot send WebSocket pings. */
export interface PingRequest {
  type: "ping";
  /** The seq of the last event that the client has seen: the server may forget everything up to it. */
  lastSeq?: number;
}

// Replies, sent by the server with the id of their request in re.

/** JoinOK gives the client its seat. Events follow from seq 1 on, the first offer among them. */
export interface JoinOK {
  type: "join.ok";
  /** Protocol version of the server. */
  version: number;
  /** Names the session in resume; not secret. */
  session: string;
  /** Secret that resume needs. */
  resumeToken: string;
  /** The client's own participant id. */
  participant: string;
  role: Role;
  /** The room's id. */
  room: string;
  /** Everybody in the room, the client itself included. */
  roster: Participant[];
  limits: Limits;
  /** For RTCPeerConnection. */
  iceServers: ICEServer[];
  /** How long the seat is kept after the socket is lost, in milliseconds. */
  resumeWindowMs: number;
  /** The server pings the socket this often, in milliseconds, and gives it up when the pong is missing for as long. */
  heartbeatMs: number;
  /** Own tracks, in the order of the publish field of the request. */
  tracks: OwnTrack[];
  /** Whether the meeting is being recorded. */
  recording: RecordingState;
  /** Whether this server records meetings at all. */
  canRecord: boolean;
}

/** Role says what a participant may do. */
export type Role =
  | "host"
  | "participant";

/** Participant is one member of a room. */
export interface Participant {
  id: string;
  name: string;
  role: Role;
  tracks: Track[];
  /** False while the socket is lost and the seat is kept. */
  connected: boolean;
  /** Nobody's: the seat stands for the viewers of the broadcast, and is there as long as there are some. */
  broadcast?: boolean;
  /** Whether the participant has data channels; left out if not. */
  data?: DataState;
}

/** Limits are what this server allows a session. */
export interface Limits {
  /** Of one frame from the client. */
  frameBytes: number;
  /** Of one line of chat. */
  chatBytes: number;
  /** Of a name, in Unicode code points. */
  nameChars: number;
  /** Requests per second that are sustained. */
  requestsPerSecond: number;
  /** Requests that may come at once. */
  requestBurst: number;
  /** Events that a connection may lag behind; twice as many are kept for resume. */
  queuedEvents: number;
  /** Participants in one room. */
  participants: number;
  /** Tracks of one participant. */
  publications: number;
  /** Of one message on a data channel; 0: the client may have none. */
  dataBytes: number;
}

/** ICEServer is an RTCIceServer of WebRTC. */
export interface ICEServer {
  urls: string[];
  username?: string;
  credential?: string;
}

/** OwnTrack says which id a publication got. */
export interface OwnTrack {
  source: Source;
  /** Track id, unique in the room for ever. */
  track: string;
}

/**
 * RecordingState says whether a meeting is being recorded. Clients show it to everybody, for as long as it is active.
 */
export interface RecordingState {
  active: boolean;
  /** When it began, milliseconds since 1970-01-01 UTC; 0 if it never did. */
  since: number;
  /** Participant id of the host who began it; "" for the server's administrator. */
  by: string;
  /** Why it is not active any more; left out while it is, and if it never was. */
  ended?: RecordingEnd;
}

/** Track is one publication. */
export interface Track {
  id: string;
  source: Source;
  kind: Kind;
  /** "opus", "vp8", "vp9", "h264" or "av1". */
  codec: string;
  muted: boolean;
  simulcast: boolean;
  /** Whether a packet of it has arrived at the server. */
  live: boolean;
  /** What its owner said of it: encrypted end to end. */
  encrypted?: boolean;
}

/** DataState says what becomes of what a participant sends on data channels. */
export type DataState =
  | "open"
  | "muted";

/** RecordingEnd says why a recording has ended. */
export type RecordingEnd =
  | "stopped"
  | "full"
  | "failed";

/** Kind is the kind of media. */
export type Kind =
  | "audio"
  | "video";

/** ResumeOK gives the client its seat back. Every event after the request's lastSeq follows. */
export interface ResumeOK {
  type: "resume.ok";
  session: string;
  /** The newest event's seq; when the client has seen it, it has missed nothing. */
  seq: number;
}

/** PublishOK names the new tracks. */
export interface PublishOK {
  type: "publish.ok";
  /** In the order of the request. */
  tracks: OwnTrack[];
}

/** UnpublishOK confirms. */
export interface UnpublishOK {
  type: "unpublish.ok";
}

/** SubscribeOK confirms. */
export interface SubscribeOK {
  type: "subscribe.ok";
  /** Tracks of the request that are not, or no longer, in the room; the others are subscribed. */
  missing: string[];
}

/** UnsubscribeOK confirms. */
export interface UnsubscribeOK {
  type: "unsubscribe.ok";
}

/** ViewOK confirms. */
export interface ViewOK {
  type: "view.ok";
}

/** DataOK confirms: an offer with a section for data channels follows, if there was none. */
export interface DataOK {
  type: "data.ok";
}

/** AnswerOK confirms. */
export interface AnswerOK {
  type: "answer.ok";
}

/** MuteOK confirms. */
export interface MuteOK {
  type: "mute.ok";
}

/** ModerateOK confirms. */
export interface ModerateOK {
  type: "moderate.ok";
}

/** RecordStartOK says that the recording has begun. The event recording goes to everybody. */
export interface RecordStartOK {
  type: "record.start.ok";
}

/** RecordStopOK says that the recording is complete, and on the server's disk. */
export interface RecordStopOK {
  type: "record.stop.ok";
}

/** ChatOK says that the line was sent. The chat event goes to the sender too, under the same id. */
export interface ChatOK {
  type: "chat.ok";
  /** Id of the line, unique in the room. */
  id: string;
  /** Time of the server, milliseconds since 1970-01-01 UTC. */
  at: number;
}

/** RestartOK confirms; the offer follows. */
export interface RestartOK {
  type: "restart.ok";
}

/** LeaveOK confirms; the socket is closed after it. */
export interface LeaveOK {
  type: "leave.ok";
}

/** PingOK answers. */
export interface PingOK {
  type: "ping.ok";
}

/**
 * Failure says that a request was refused and nothing was changed by it. A frame whose id cannot be read is answered
 * with re 0.
 */
export interface Failure {
  type: "error";
  error: WireError;
}

/** WireError is a refusal as the client sees it. */
export interface WireError {
  code: Code;
  /** What is wrong, in English, for people. */
  message: string;
  /** What to do about it, in English, for people; may be "". */
  hint: string;
  /** When to try again, in milliseconds; 0 where trying again does not help or needs no wait. */
  retryAfterMs: number;
}

/** Code is the stable name of an error. Programs match it; people read message and hint. */
export type Code =
  | "bad_request"
  | "unsupported_version"
  | "unauthorized"
  | "token_expired"
  | "forbidden"
  | "room_closed"
  | "room_full"
  | "not_found"
  | "too_large"
  | "rate_limited"
  | "too_many"
  | "conflict"
  | "stale_offer"
  | "session_gone"
  | "internal"
  | "unsupported_codec";

// Events, sent by the server with a seq that grows by one.

/** OfferEvent is an offer to answer with its number. The next one comes only after the answer. */
export interface OfferEvent {
  type: "offer";
  number: number;
  /** For setRemoteDescription. */
  sdp: string;
  /** What each section is for, in the order of the m-lines. */
  sections: OfferSection[];
}

/** OfferSection says what one m-line is for. */
export interface OfferSection {
  /** The section's mid, as RTCRtpTransceiver.mid. */
  mid: string;
  /** Set when the client is to send here: what belongs here. */
  source?: Source;
  /**
   * Set when the client is to send here: its own track. Left out in slots, where the server sends, and in sections out
   * of use.
   */
  track?: string;
  /** Set in the section for data channels. */
  data?: boolean;
}

/** SlotsEvent says what plays in each of the sections where the server sends: all of them, every time. */
export interface SlotsEvent {
  type: "slots";
  slots: Slot[];
}

/** Slot is the binding of one section where the server sends. */
export interface Slot {
  /** The section's mid. */
  mid: string;
  /** The track that plays here; "" while the slot is free. */
  track: string;
  /** Whose track it is; "" while the slot is free. */
  participant: string;
}

/**
 * DemandEvent says how many layers of an own track anybody can make use of: those above need not be encoded. All of
 * them are wanted until an event says otherwise.
 */
export interface DemandEvent {
  type: "demand";
  /** An own track. */
  track: string;
  /** How many, from the lowest; at least 1. */
  layers: number;
}

/**
 * QualityEvent says how well tracks arrive, whenever that has changed: own ones at the server, those of others at the
 * client. A track of which nothing was said is good.
 */
export interface QualityEvent {
  type: "quality";
  /** Tracks that have become better or worse. */
  tracks: TrackQuality[];
}

/** TrackQuality says how well a track arrives. */
export interface TrackQuality {
  /** Track id. */
  track: string;
  grade: Grade;
}

/** Grade says how well something arrives. */
export type Grade =
  | "good"
  | "fair"
  | "poor";

/**
 * DataClosedEvent says that the server has closed, or not opened, one of the client's data channels, or lost all of
 * them.
 */
export interface DataClosedEvent {
  type: "dataClosed";
  /** The channel's label; "" with the reason moved, which is about all of them. */
  label: string;
  /**
   * Participant id of the sender of what came in it, the client itself for a channel that it has opened; "" with the
   * reason moved. When a receiver was slow, the sender of the messages is told too, and this is then the receiver.
   */
  from: string;
  reason: DataReason;
}

/** DataReason says why the server has closed a data channel. */
export type DataReason =
  | "slow"
  | "too-many"
  | "refused"
  | "too-large"
  | "moved";

/** MediaEvent says how the media transport of the client itself fares, as the server sees it. */
export interface MediaEvent {
  type: "media";
  state: MediaState;
}

/** MediaState is the state of a media transport. */
export type MediaState =
  | "connecting"
  | "connected"
  | "disconnected"
  | "failed"
  | "closed";

/** JoinedEvent says that somebody came. It is not sent to the one who joined. */
export interface JoinedEvent {
  type: "joined";
  participant: Participant;
}

/** LeftEvent says that somebody is gone, with all tracks. */
export interface LeftEvent {
  type: "left";
  /** Participant id. */
  participant: string;
  reason: LeftReason;
}

/** LeftReason says why somebody is gone. */
export type LeftReason =
  | "leave"
  | "expired"
  | "removed"
  | "error";

/** UpdatedEvent gives the new state of a participant: connected has changed, or the codec of a track was settled. */
export interface UpdatedEvent {
  type: "updated";
  participant: Participant;
}

/** TrackAddedEvent says that a participant, perhaps the client itself, publishes a new track. */
export interface TrackAddedEvent {
  type: "trackAdded";
  /** Participant id. */
  participant: string;
  track: Track;
}

/** TrackRemovedEvent says that a track has ended; slots that played it are free. */
export interface TrackRemovedEvent {
  type: "trackRemoved";
  /** Participant id. */
  participant: string;
  /** Track id. */
  track: string;
}

/** TrackMutedEvent says that a track was muted or unmuted. */
export interface TrackMutedEvent {
  type: "trackMuted";
  /** Participant id of the owner. */
  participant: string;
  /** Track id. */
  track: string;
  muted: boolean;
  /** Participant id of the one who did it: the owner or a host; "" for the server's administrator. */
  by: string;
}

/** TrackLiveEvent says that the first packet of a track has arrived at the server. */
export interface TrackLiveEvent {
  type: "trackLive";
  /** Participant id of the owner. */
  participant: string;
  /** Track id. */
  track: string;
}

/** SpeakerEvent says who speaks. */
export interface SpeakerEvent {
  type: "speaker";
  /** Participant id; "" when nobody speaks. */
  participant: string;
}

/** RecordingEvent says that the meeting is being recorded from now on, or no more. */
export interface RecordingEvent {
  type: "recording";
  recording: RecordingState;
}

/** ChatLineEvent is a line of chat, of others or of the client itself. */
export interface ChatLineEvent {
  type: "chat";
  /** Id of the line, unique in the room. */
  id: string;
  /** Participant id of the sender. */
  from: string;
  /** Name of the sender when it was sent. */
  name: string;
  text: string;
  /** Time of the server, milliseconds since 1970-01-01 UTC. */
  at: number;
}

/** RemovedEvent says that the client has lost its seat for good; the socket is closed with code 4003 after it. */
export interface RemovedEvent {
  type: "removed";
  reason: RemovedReason;
}

/** RemovedReason says why the client has lost its seat. */
export type RemovedReason =
  | "host"
  | "admin"
  | "room_closed";

/** ClosingEvent says that the server stops; the socket is closed with code 1001 after it. Join again, not resume. */
export interface ClosingEvent {
  type: "closing";
  /** For people. */
  reason: string;
  /** When to try again, in milliseconds. */
  retryAfterMs: number;
}

// Bodies of the HTTP calls.

/** MeetingRequest is the body of POST /api/v1/meetings. It has no fields yet. */
export interface MeetingRequest {
}

/** Meeting is the answer to POST /api/v1/meetings. */
export interface Meeting {
  /** The room's id. */
  room: string;
  /** The page to send to others. */
  url: string;
  /** Makes its holder a host of the room; keep it secret. */
  hostToken: string;
}

/** TokenRequest is the body of POST /api/v1/meetings/{room}/token. */
export interface TokenRequest {
  /** From the meeting: makes the holder of the new token a host. At most 2048 bytes. */
  hostToken?: string;
  /** Put into the token: the seat has this name then, whatever join says. At most 64 characters. */
  name?: string;
}

/** TokenReply is the answer to POST /api/v1/meetings/{room}/token. */
export interface TokenReply {
  /** For join. */
  token: string;
  role: Role;
  /** Milliseconds since 1970-01-01 UTC. */
  expiresAt: number;
}

/** WatchRequest is the body of POST /api/v1/meetings/{room}/watch-token. */
export interface WatchRequest {
  /** From the meeting: only a host lets others watch without a seat. At most 2048 bytes. */
  hostToken: string;
}

/** WatchReply is the answer to POST /api/v1/meetings/{room}/watch-token. */
export interface WatchReply {
  /** For WHEP, and behind the # of a link to the page /watch/{room}. */
  token: string;
  /** Milliseconds since 1970-01-01 UTC. */
  expiresAt: number;
}

/** HTTPError is the body of every HTTP answer with a status of 400 and above. */
export interface HTTPError {
  error: WireError;
}

// The frames as a whole.

/** Every request. */
export type ClientRequest =
  | JoinRequest
  | ResumeRequest
  | PublishRequest
  | UnpublishRequest
  | SubscribeRequest
  | UnsubscribeRequest
  | ViewRequest
  | DataRequest
  | AnswerRequest
  | MuteRequest
  | ModerateRequest
  | RecordStartRequest
  | RecordStopRequest
  | ChatRequest
  | RestartRequest
  | LeaveRequest
  | PingRequest;

/** Every reply. */
export type ServerReply =
  | JoinOK
  | ResumeOK
  | PublishOK
  | UnpublishOK
  | SubscribeOK
  | UnsubscribeOK
  | ViewOK
  | DataOK
  | AnswerOK
  | MuteOK
  | ModerateOK
  | RecordStartOK
  | RecordStopOK
  | ChatOK
  | RestartOK
  | LeaveOK
  | PingOK
  | Failure;

/** Every event. */
export type ServerEvent =
  | OfferEvent
  | SlotsEvent
  | DemandEvent
  | QualityEvent
  | DataClosedEvent
  | MediaEvent
  | JoinedEvent
  | LeftEvent
  | UpdatedEvent
  | TrackAddedEvent
  | TrackRemovedEvent
  | TrackMutedEvent
  | TrackLiveEvent
  | SpeakerEvent
  | RecordingEvent
  | ChatLineEvent
  | RemovedEvent
  | ClosingEvent;

/** What the client sends: a request with an id that it has not used before in this session. */
export type ClientFrame = ClientRequest & { id: number };
/** What the server sends. Replies have re, events have seq. */
export type ServerFrame = (ServerReply & { re: number }) | (ServerEvent & { seq: number });

/** Which reply a request gets when it is not refused. */
export interface ReplyTo {
  "join": JoinOK;
  "resume": ResumeOK;
  "publish": PublishOK;
  "unpublish": UnpublishOK;
  "subscribe": SubscribeOK;
  "unsubscribe": UnsubscribeOK;
  "view": ViewOK;
  "data": DataOK;
  "answer": AnswerOK;
  "mute": MuteOK;
  "moderate": ModerateOK;
  "record.start": RecordStartOK;
  "record.stop": RecordStopOK;
  "chat": ChatOK;
  "restart": RestartOK;
  "leave": LeaveOK;
  "ping": PingOK;
}
