package transport

// Counters say what happened on a Mux since it was made. They belong to the
// shard; Mux.Counters returns a copy that may go anywhere.
type Counters struct {
	Datagrams   uint64 // received, of any kind
	Passed      uint64 // of these, for a neighbour's session: it counts them, too
	Unknown     uint64 // first byte of no protocol spoken here
	Relayed     uint64 // TURN of either form, for the relay on this port
	ChannelData uint64 // TURN ChannelData that no relay here has taken
	TURN        uint64 // STUN with a TURN method that no relay here has taken

	// Sessions.
	Opened, Restored, Closed, Failed uint64
	TooManySessions                  uint64
	DuplicateRestores                uint64
	BadCheckpoints                   uint64

	// STUN in.
	STUNMalformed    uint64
	STUNUnknown      uint64 // method or class without a meaning here
	STUNIndications  uint64
	PlainAnswered    uint64 // Binding requests without USERNAME, answered
	PlainLimited     uint64 // the same, above the rate
	BadUfrag         uint64 // MAC does not fit: garbage or another cluster
	ForeignNode      uint64 // ufrag of a cluster member whose session is not here
	UnknownSession   uint64 // our own ufrag, session gone
	StaleGeneration  uint64 // credentials from before an ICE restart
	BadIntegrity     uint64
	UnknownAttribute uint64 // answered 420
	RoleConflicts    uint64 // 487 sent or received, and the last one before a peer was left in control
	RolesYielded     uint64 // peers that insisted on controlling, and do
	Requests         uint64 // authenticated Binding requests
	PathsRefused     uint64 // a session has too many paths or makes them too fast
	PathConflicts    uint64 // address belongs to another live session

	// ICE out.
	Checks           uint64 // Binding requests sent, repetitions included
	Nominations      uint64 // of these with USE-CANDIDATE
	Responses        uint64 // to checks of ours, accepted
	StrayResponses   uint64 // fit no transaction
	PathChanges      uint64 // selected path changed, the first selection included
	ConsentExpired   uint64
	RandomFailures   uint64
	OversizedOutputs uint64 // a message outgrew its reservation

	// DTLS.
	DTLSIn, DTLSOut      uint64
	DTLSUnexpected       uint64 // from an unknown address, no handshake running, or not a ClientHello
	HandshakesStarted    uint64
	HandshakesDeferred   uint64 // no room; the client repeats its ClientHello
	HandshakesDone       uint64
	HandshakesFailed     uint64
	HellosBeforeAnswer   uint64
	HandshakePacketsLost uint64 // no path to send them to

	// Media in.
	UnknownAddress uint64 // RTP or RTCP from an address that has no session
	NoKeys         uint64 // before the handshake was done
	NotActive      uint64 // standby or frozen session
	RTPMalformed   uint64
	NoBuffer       uint64
	AuthFailed     uint64
	Replayed       uint64
	StreamsRefused uint64
	RTPIn, RTCPIn  uint64
	BytesIn        uint64 // of accepted media, as received

	// Media out.
	RTPOut, RTCPOut uint64
	BytesOut        uint64 // of media, as sent
	SendRefused     uint64 // not ready, not active, or refused by SRTP
}

// Counters returns a copy. It is called on the shard's thread.
func (m *Mux) Counters() Counters { return m.counters }
