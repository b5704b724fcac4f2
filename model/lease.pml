/*
 * Leased credentials of one principal at one server: the next before the last ends.
 *
 * A keeper takes credentials from Vault, puts newer ones in their place, and gives back what
 * nobody uses. Requests look for the present set, begin with it, are sent and end. At any
 * moment the principal may lose its access: its requests are cut first, and then all that was
 * taken is to end, also what Vault is just being asked for.
 */

#ifndef SETS
#define SETS 3      /* that are taken in all */
#endif
#define NONE 0

/* Vault: which leases live. */
bool lives[SETS + 1];
byte taken;

/* The holding. */
bool exists;             /* it is in the server's table: an end of access finds it */
bool running;            /* its keeper runs */
bool ended;
byte current;            /* the set for new requests */
byte minting;            /* the lease that Vault is being asked for */
bool abandoned[SETS + 1]; /* to be given back, also if it is still to come */

/* The sets. */
bool installed[SETS + 1];
bool retired[SETS + 1];  /* nothing begins with it */
bool dead[SETS + 1];     /* nobody may use it */
byte users[SETS + 1];

/* The principal. */
bool access = true;      /* the contexts of its requests are not done */

/* give_back ends the lease of a set that nobody uses and nobody will [give back]. */
inline give_back(s)
{
	if
	:: users[s] == 0 && (retired[s] || dead[s]) -> dead[s] = true; lives[s] = false
	:: else
	fi
}

/* The keeper: the holding's one goroutine. */
proctype Keeper()
{
	byte s;
end:
	do
	:: atomic { running && !ended && taken < SETS -> taken++; s = taken; minting = s } /* take [take] */
		lives[s] = true;                 /* Vault has made it */
		if
		:: atomic { abandoned[s] -> lives[s] = false; minting = NONE }     /* adopt: too late [adopt] */
		:: atomic { !abandoned[s] -> minting = NONE }
			/* install puts it in place, unless the holding has ended [install] */
			atomic {
				if
				:: ended -> dead[s] = true; give_back(s)
				:: else ->
					if
					:: current != NONE -> retired[current] = true; give_back(current) /* supersede [supersede] */
					:: else
					fi;
					current = s; installed[s] = true
				fi
			}
		fi;
		s = NONE
	od
}

/* A request of the principal. */
proctype Request()
{
	byte s;
	byte tries;
	bool begun;
end:
	do
	:: access ->
		atomic {
			if
			:: !exists && !ended -> exists = true; begun = true /* it begins the holding [begin] */
			:: else
			fi
		}
		/* From here on an end finds the holding; had it come before, the context would be done [look] */
		if
		:: atomic { begun && !access -> ended = true; exists = false; goto over }
		:: atomic { begun && access -> running = true }
		:: !begun
		fi;
		tries = 0;
		do
		:: atomic { ended || tries == 3 ->
				assert(tries < 3 || ended || !access); /* promise: no request fails while credentials are replaced */
				goto over
			}
		:: atomic { !ended && tries < 3 && current != NONE -> s = current }    /* get [get] */
			atomic { /* begin use [use] */
				if
				:: dead[s] -> s = NONE; tries++ /* it takes the next one */
				:: else -> users[s]++; break
				fi
			}
		:: atomic { !access && current == NONE -> goto over } /* it waits no longer */
		od;
		/* The server gets the credentials. */
		assert(lives[s] || dead[s]); /* promise: no request is sent with credentials that have been given back */
		atomic { users[s]--; give_back(s); s = NONE } /* end use */
over:		atomic { begun = false; tries = 0; s = NONE }
	od
}

/* Access is lost: first the contexts of the requests, then whoever keeps something hears it. */
proctype Loss()
{
	byte s;
	access = false;
	/* end: what is there, and what is being taken [end] */
	atomic {
		if
		:: exists ->
			ended = true; exists = false; current = NONE;
			if
			:: minting != NONE -> abandoned[minting] = true
			:: else
			fi;
			s = 1;
			do
			:: s <= SETS && lives[s] && installed[s] -> dead[s] = true; give_back(s); s++
			:: s <= SETS && !(lives[s] && installed[s]) -> s++
			:: s > SETS -> break
			od
		:: else
		fi
	}
	/* What is still in use half a second later ends all the same [release]. */
}

init {
	byte s;
	atomic { run Keeper(); run Request(); run Request(); run Loss() };
	/* When nothing happens any more. */
	atomic {
		timeout;
		s = 1;
		do
		:: s <= SETS ->
			assert(!lives[s]); /* promise: when access is lost, all that was taken is given back */
			s++
		:: else -> break
		od
	}
}
