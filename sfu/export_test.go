package sfu

// Hear gives the conference of e the level of one of its packets, as a shard's notice does; what packets carry is shown in
// sfu/forward.
func Hear(e *Endpoint, loud uint8, voice bool, now int64) {
	c := e.e.conf
	c.hear([]level{{conf: c, id: e.e.speakerID, loud: loud, voice: voice, at: now}})
}

// Look lets the conference of e see who speaks at a moment. It returns whether it would look again without hearing anything.
func Look(e *Endpoint, now int64) bool { return e.e.conf.findSpeaker(now) }
