#ifndef _NGX_VIDGEN_SEEN_H_INCLUDED_
#define _NGX_VIDGEN_SEEN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_zone.h"


/*
 * The seen set: which events were handled, or are in a worker's hands.  A
 * filter only: a hit saves the database, a miss asks it, and losing the zone
 * never changes an outcome.
 */

#define NGX_VIDGEN_SEEN_KEY_LEN  16      /* leading bits of a SHA-256 */

/* what a done entry remembers: enough to build its answer again */
typedef struct {
    u_char                 job[16];            /* UUID; zeros: none */
    u_char                 fingerprint[16];    /* of a generation's payload */
    uint32_t               estimated_time;     /* seconds; 0: none */
    uint32_t               provider;           /* crc32 of its name */
    uint32_t               age;                /* seconds since it was done;
                                                  only read */
    uint16_t               http_status;
    uint8_t                job_status;         /* the caller's code */
    uint8_t                kind;               /* the caller's code */
} ngx_vidgen_seen_value_t;

/*
 * What a look-up leaves with its caller, who keeps it beside the key and does
 * not look inside.  All zeros: never looked up.
 */
typedef struct {
    uint32_t               serial;       /* of the claim; 0: none held */
    uint32_t               epoch;        /* another once the set was emptied */
    uint32_t               taken;        /* with NGX_BUSY: 1 in flight
                                            elsewhere, 0 no entry free */
} ngx_vidgen_seen_claim_t;


/* ms; a claim that is older was left by a worker that died */
#define NGX_VIDGEN_SEEN_LEASE  60000

/*
 * Looks key up and claims it if it is not there.
 *   NGX_OK        done: value is filled
 *   NGX_DECLINED  it was not there and is now claimed by the caller, who must
 *                 end with ngx_vidgen_seen_done() or _release()
 *   NGX_BUSY      in flight elsewhere, or no entry free: go on without a
 *                 claim; neither _done nor _release is owed (both are safe)
 * A claim older than the lease it was made with counts as abandoned and is
 * taken over.  claim is filled in every case.
 */
ngx_int_t ngx_vidgen_seen_claim(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_msec_t lease_ms,
    ngx_vidgen_seen_value_t *value, ngx_vidgen_seen_claim_t *claim);

/*
 * The event is committed: key becomes (or is made) done with value, whoever
 * holds its claim.  Not if the set was emptied since the look-up: the commit
 * may belong to a history that is lost.
 */
void ngx_vidgen_seen_done(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_value_t *value,
    ngx_vidgen_seen_claim_t *claim);

/*
 * No effect known: the caller's own claim of key is forgotten; a done entry
 * stays, and so does a claim that another took over.  Nothing happens after
 * _done or a second time, so a cleanup may always call it.
 */
void ngx_vidgen_seen_release(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_claim_t *claim);

/*
 * Looks up without claiming: NGX_OK done, NGX_DECLINED otherwise.  claim is
 * filled for a later ngx_vidgen_seen_done().
 */
ngx_int_t ngx_vidgen_seen_peek(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_value_t *value,
    ngx_vidgen_seen_claim_t *claim);

typedef struct {
    ngx_uint_t             capacity;     /* entries */
    ngx_uint_t             used;
    ngx_uint_t             in_flight;
    ngx_uint_t             evictions;    /* done entries that made room */
    ngx_uint_t             resets;       /* the set emptied: an owner died
                                            inside, or another history */
} ngx_vidgen_seen_stat_t;

void ngx_vidgen_seen_stat(ngx_vidgen_zone_t *zone,
    ngx_vidgen_seen_stat_t *stat);


#endif /* _NGX_VIDGEN_SEEN_H_INCLUDED_ */
