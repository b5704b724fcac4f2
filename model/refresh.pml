/*
 * Sign-in's refresh: generations in the cubbyhole of the person's Vault token.
 *
 * One sign-in. Its application has two processes that share what they know, refresh at the same
 * time and lose answers. A thief may have copied one of its refresh tokens. Every refresh goes
 * to some gateway, which keeps nothing: each step is a request to Vault, and others come in
 * between. Vault can fail to lease an access token. Time goes in steps: the grace is GRACE of
 * them, and no request to the token endpoint takes longer than one.
 */

#ifndef REFRESHES
#define REFRESHES 4  /* in all */
#endif
#ifndef THIEF
#define THIEF 0      /* 1: somebody has copied the first refresh token */
#endif
#ifndef TIME
#define TIME 4
#endif
#define GRACE 2
#define KEYS (REFRESHES + 3)
#define NEVER 99

byte now;
byte refreshes;

/* Vault. */
bool alive = true;           /* the person's token, with all leases below it */
bool key[KEYS];              /* cubbyhole: the generations that are there */
byte began[KEYS];            /* and their times */
byte first_began[KEYS];      /* when a generation was written for the first time */

/* The newest refresh token that the application has, and the thief's. */
byte has[2];

/* When the request of each process began; NEVER: none is under way. */
#define PROCESSES 3
byte under_way[PROCESSES] = NEVER;
byte sends[PROCESSES]; /* the generation with which it has begun */

/*
 * An access token lives for many minutes, a request for seconds. So no process of an application
 * begins with a newer refresh token while another's request is under way.
 */
#ifdef OVERTAKES
#define ALONE(p) true
#else
#define ALONE(p) (under_way[1 - p] == NEVER || sends[1 - p] == has[APPLICATION])
#endif

#define APPLICATION 0
#define THIEF_ID 1

/* present is the highest generation in the cubbyhole [generation]. */
inline list(n)
{
	d_step {
		n = 0; i = 1;
		do
		:: i < KEYS ->
			if
			:: key[i] -> n = i
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
}

/* An application whose answer was lost asks again within the grace; after a 503, at any time. */
#define IN_TIME(n) (!hurries || !key[n + 1] || now - began[n + 1] <= GRACE)
bool hurries;

/* The grace, by Vault's time. A generation may be a little younger than the request. */
#define WITHIN_GRACE(read, since) (read - since <= GRACE && since - read <= 1)

/* One process of a party, which refreshes. */
proctype Process(byte process; byte party)
{
	byte f;        /* the generation of the refresh token that it sends */
	byte read;     /* Vault's time, when the request began */
	byte present;
	byte since;
	byte next;
	byte i;
	bool unread;
end:
	do
	:: atomic { refreshes < REFRESHES && (party == THIEF_ID || (IN_TIME(has[party]) && ALONE(process))) ->
			refreshes++;
			f = has[party];
			read = now; under_way[process] = now; sends[process] = f
		}
		/* Vault looks up the person's token [look up] */
		if
		:: !alive -> goto denied
		:: alive
		fi;
		/* the generation, and when it began [generation] */
		list(present);
		atomic { since = began[present]; unread = !key[present] };
		if
		:: f >= present -> next = f + 1 /* the present one, or one that a node has not heard of */
		:: f < present && unread -> goto over /* it is gone meanwhile, and nothing follows: 503 */
		:: f + 1 == present && !unread && WITHIN_GRACE(read, since) -> next = present
		:: else ->
			/* it comes too late: two parties had it [replay] */
			alive = false;
			goto denied
		fi;
		assert(!(first_began[f + 1] != NEVER && read - first_began[f + 1] > GRACE + 1)); /* promise: a refresh token is good for no longer than the grace after its successor began */
		/* an access token [lease] */
		if
		:: alive
		:: !alive -> goto denied
		:: goto over /* Vault cannot be asked: 503 */
		fi;
		/* the generation begins, unless it is there [set] */
		if
		:: next == f + 1 && next != present ->
			atomic {
				if
				:: !alive -> goto denied
				:: else
				fi;
				key[next] = true; began[next] = read;
				if
				:: first_began[next] == NEVER -> first_began[next] = read
				:: else
				fi;
				if
				:: next > 2 -> key[next - 2] = false
				:: else
				fi
			}
		:: else
		fi;
		/* the answer, which may be lost [answer] */
		atomic {
			if
			:: has[party] < next -> has[party] = next; hurries = hurries && party == THIEF_ID
			:: else
			:: true -> hurries = hurries || (party == APPLICATION && has[party] < next) /* it is lost */
			fi;
			goto over
		}
denied:		atomic {
			assert(THIEF); /* promise: an application that refreshes in parallel, or loses answers, keeps its sign-in */
			goto over
		}
over:		atomic {
			f = 0; read = 0; present = 0; since = 0; next = 0; unread = false;
			under_way[process] = NEVER; sends[process] = 0
		}
	od
}

/* No request lasts longer than a step. */
#define NOT_SINCE(p) (under_way[p] == NEVER || under_way[p] == now)

active proctype Clock()
{
end:
	do
	:: atomic { now < TIME && NOT_SINCE(0) && NOT_SINCE(1) && NOT_SINCE(2) -> now++ }
	od
}

init {
	byte i;
	atomic {
		i = 0;
		do
		:: i < KEYS -> first_began[i] = NEVER; i++
		:: else -> break
		od;
		i = 0;
		key[1] = true; first_began[1] = 0;
		has[APPLICATION] = 1;
		run Process(0, APPLICATION); run Process(1, APPLICATION);
		if
		:: THIEF -> has[THIEF_ID] = 1; run Process(2, THIEF_ID)
		:: else
		fi
	}
}
