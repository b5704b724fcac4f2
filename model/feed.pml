/*
 * The change feed: durable events, indexes, watchers.
 *
 * Changes of the engine run at the same time, each in the four steps of feed.Around. Gateways
 * watch: they ask for what came after their index, and wait. Events that are close together
 * are one answer. The log is pruned. The engine is killed at every point and started again,
 * perhaps on another node; what is in its memory is lost.
 *
 * Every run of the engine takes its indexes from a block of its own. In the code a block begins
 * after a random gap, so that runs from one snapshot restored twice have different ones; here
 * each run's block is a new one.
 */

#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef WATCHERS
#define WATCHERS 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef PRUNES
#define PRUNES 1
#endif

#define NONE 0
#define INTENT 250
#define MOST 1     /* events in one answer */
#define BLOCK 10   /* indexes of a run */
#define RUNS (CRASHES + 2)

/* Storage, which survives. */
bool committed[CHANGES];   /* the change itself */
byte stored[CHANGES];      /* its event: NONE, INTENT or its index */
byte stored_floor;
bool stored_runs[RUNS];    /* blocks whose runs are remembered */

/* The engine's memory, which a crash empties. */
byte boot;                 /* counts the runs; the run's block is the one of this number */
bool loaded;
byte head;
byte floor;
byte log[CHANGES];         /* the event's index; NONE: it is not in the log */
bool published[CHANGES];   /* for the promises: the event has an index, and has not lost it in a crash */
bool pending;              /* a wake-up is on its way */
bool woken[WATCHERS];      /* the channel on which the watcher waits is closed */

/* Gateways. */
byte position[WATCHERS];
bool synced[WATCHERS];     /* it has had an answer */
bool knows[WATCHERS * CHANGES];
#define KNOWS(w, k) knows[w * CHANGES + k]

/* announce wakes the watchers, after a time that others may use [announce]. */
inline announce() { pending = true }

active proctype Coalescing()
{
	byte w;
end:
	do
	:: atomic { pending -> pending = false; /* release [release] */
			do
			:: w < WATCHERS -> woken[w] = true; w++
			:: else -> w = 0; break
			od
		}
	od
}

/* One change of the engine [around]. */
proctype Change(byte k)
{
	byte mine;
	atomic { loaded -> mine = boot };
	{
		stored[k] = INTENT;                   /* the intent */
		committed[k] = true;                  /* the change itself */
		atomic { head++; log[k] = head; published[k] = true; announce() } /* publish [publish] */
		stored[k] = log[k]                    /* the event with its index */
	} unless { boot != mine }
}

/*
 * since is the answer to a watcher at an index: what it has missed, or a reset, or the channel
 * on which it is to wait [since]. It is one step, under the feed's lock.
 */
inline since(at, known)
{
	d_step {
		reset = false; event = CHANGES; upto = head;
		/* Was anybody told to be at this index, by this history? */
		given = at == floor || (at % BLOCK == 0 && at / BLOCK < RUNS && stored_runs[at / BLOCK]);
		next = 0; i = 0;
		do
		:: i < CHANGES ->
			if
			:: log[i] != NONE && log[i] == at -> given = true
			:: log[i] != NONE && log[i] > at ->
				if
				:: event == CHANGES -> event = i
				:: event != CHANGES && log[i] < log[event] -> event = i
				:: else
				fi;
				next++ /* how many it has missed */
			:: else
			fi;
			i++
		:: else -> break
		od;
		if
		:: !known || at < floor || at > head || !given -> reset = true; event = CHANGES
		:: else ->
			if
			:: next > MOST -> upto = log[event] /* the rest comes with the next answer [paging] */
			:: else
			fi
		fi;
		woken[w] = false;
		i = 0; next = 0; given = false
	}
}

/* A gateway's long poll [watch]. */
proctype Watcher(byte w)
{
	byte mine;
	bool reset;
	byte event;
	byte upto;
	bool given;
	byte next;
	byte i;
again:
	atomic { loaded -> mine = boot };
	{
		do
		:: since(position[w], synced[w]);
			if
			:: reset || event != CHANGES -> break
			:: else ->
				/* it waits for a wake-up, which may be for what it has been given already */
end:				woken[w]
			fi
		od
	} unless { boot != mine };
	atomic {
		if
		:: boot != mine && !reset && event == CHANGES -> upto = 0; goto again /* the request has failed */
		:: else
		fi
	}
	/* The answer is on its way: the engine may change, or be killed. */
	atomic {
		if
		:: reset ->
			/* from here on the gateway asks about everything [reset] */
			i = 0;
			do
			:: i < CHANGES -> KNOWS(w, i) = committed[i] && published[i]; i++
			:: else -> break
			od
		:: else -> KNOWS(w, event) = committed[event] /* a change that never came to be may have an event */
		fi;
		position[w] = upto; synced[w] = true;
		i = 0;
		do
		:: i < CHANGES ->
			assert(!(boot == mine && log[i] != NONE && log[i] <= position[w] && committed[i]) || KNOWS(w, i)); /* promise: no watcher is past a change that it has not heard of */
			i++
		:: else -> break
		od;
		i = 0; reset = false; event = CHANGES; upto = 0;
		goto again
	}
}

/* The oldest event of the log is forgotten [prune]. */
proctype Prune()
{
	byte mine;
	byte n;
	byte k;
	byte i;
	atomic { loaded -> mine = boot; k = CHANGES };
	{
		do
		:: n < PRUNES -> n++;
			d_step {
				k = CHANGES; i = 0;
				do
				:: i < CHANGES ->
					if
					:: log[i] != NONE && k == CHANGES -> k = i
					:: log[i] != NONE && k != CHANGES && log[i] < log[k] -> k = i
					:: else
					fi;
					i++
				:: else -> break
				od;
				i = 0
			}
			if
			:: k != CHANGES ->
				stored_floor = log[k];                   /* durable, before the first event goes [floor] */
				atomic { floor = stored_floor; log[k] = NONE };
				stored[k] = NONE
			:: else
			fi
		:: n == PRUNES -> break
		od
	} unless { boot != mine }
}

/* lose empties the engine's memory. */
inline lose()
{
	boot++; loaded = false; head = 0; floor = 0; pending = false;
	i = 0;
	do
	:: i < CHANGES -> log[i] = NONE; published[i] = published[i] && stored[i] != INTENT; i++
	:: else -> break
	od;
	i = 0
}

active proctype Crash()
{
	byte crashes;
	byte i;
	boot = 1;
	goto load;
end:
	do
	:: atomic { crashes < CRASHES -> crashes++; lose() }
load:
		/* The run's block is durable before its first index is used [block]. */
		atomic { stored_runs[boot] = true; head = boot * BLOCK };
		i = 0;
		do
		:: i < CHANGES ->
			if
			:: stored[i] == INTENT -> head++; atomic { stored[i] = head; published[i] = true } /* one that a crash left without an index [load] */
			:: else
			fi;
			i++
		:: i < CHANGES && crashes < CRASHES -> break /* killed while it loads */
		:: i == CHANGES ->
			atomic {
				i = 0; floor = stored_floor;
				do
				:: i < CHANGES -> log[i] = (stored[i] > floor -> stored[i] : NONE); i++
				:: else -> break
				od;
				i = 0; loaded = true; break
			}
		od
	od
}

init {
	byte k;
	byte w;
	atomic {
		do
		:: k < CHANGES -> run Change(k); k++
		:: else -> break
		od;
		do
		:: w < WATCHERS -> run Watcher(w); w++
		:: else -> break
		od;
		run Prune(); k = 0; w = 0
	}
	/* When nothing happens any more. */
	atomic {
		timeout;
		do
		:: w < WATCHERS ->
			k = 0;
			do
			:: k < CHANGES ->
				assert(KNOWS(w, k) == committed[k]); /* promise: every watcher learns */
				k++
			:: else -> break
			od;
			w++
		:: else -> break
		od
	}
}
