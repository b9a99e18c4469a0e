#ifndef _NGX_VIDGEN_RELAY_H_INCLUDED_
#define _NGX_VIDGEN_RELAY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_zone.h"


/*
 * Words in the zone between the workers and the monitor.  They survive the
 * monitor, which may be ended at any moment.
 */

#define NGX_VIDGEN_RELAY_SILENT  3       /* seconds without a beat */

#define NGX_VIDGEN_RELAY_CHANGES  32     /* kept until they are noted */

/* a status that came by live traffic */
typedef struct {
    u_char                 len;
    u_char                 name[63];
    ngx_uint_t             status;       /* ngx_vidgen_health_e */
    ngx_uint_t             failures;
    ngx_uint_t             response_time_ms;
    int64_t                when_ms;      /* since the epoch */
} ngx_vidgen_relay_change_t;

/* what this machine has said of a provider's outage, and what it owes */
typedef struct {
    time_t                 said;         /* the last outage; 0: never */
    time_t                 began;        /* the outage that was told */
    u_char                 told;         /* 1: an outage, 0: its end */
    u_char                 alone;        /* 1: without the database's leave */
    u_char                 owed;         /* 1: an outage that could not be
                                            delivered yet */
} ngx_vidgen_relay_alert_t;


/* ms since the epoch, as of this round of the event loop */
int64_t ngx_vidgen_relay_now(void);

/*
 * This process is the monitor from now on; whether it still is.  nginx may have
 * two for a while, of which the latest works.
 */
void ngx_vidgen_relay_take(ngx_vidgen_zone_t *zone);
ngx_uint_t ngx_vidgen_relay_mine(ngx_vidgen_zone_t *zone);

/* the monitor is alive */
void ngx_vidgen_relay_beat(ngx_vidgen_zone_t *zone);

/* Seconds since the last beat; -1: there was none yet. */
time_t ngx_vidgen_relay_age(ngx_vidgen_zone_t *zone);

/* 1: it is silent for too long, and nobody has reported this silence yet */
ngx_uint_t ngx_vidgen_relay_missed(ngx_vidgen_zone_t *zone);

/*
 * 1: somebody has asked for a probe since one was last started, which was at
 * *started, in ms since the epoch; 0: never.
 */
ngx_uint_t ngx_vidgen_relay_probes(ngx_vidgen_zone_t *zone,
    ngx_str_t *provider, int64_t *started);

/* A probe starts. */
void ngx_vidgen_relay_probe(ngx_vidgen_zone_t *zone, ngx_str_t *provider);

/*
 * Takes the oldest change that was not taken yet; 0: there is none.  Where
 * there were too many, the oldest are lost.
 */
ngx_uint_t ngx_vidgen_relay_changed(ngx_vidgen_zone_t *zone,
    ngx_vidgen_relay_change_t *change);

/* The provider's key set on the disk is another one now. */
void ngx_vidgen_relay_keys_new(ngx_vidgen_zone_t *zone, ngx_str_t *provider);

/* The version of the key set, and when it was last asked for. */
uint32_t ngx_vidgen_relay_keys(ngx_vidgen_zone_t *zone, ngx_str_t *provider,
    time_t *asked);

/* A signature fits none of the keys: there may be new ones. */
void ngx_vidgen_relay_keys_ask(ngx_vidgen_zone_t *zone, ngx_str_t *provider);

/* subject: a provider's name, or another one that no provider can have */
void ngx_vidgen_relay_alert_get(ngx_vidgen_zone_t *zone, ngx_str_t *subject,
    ngx_vidgen_relay_alert_t *alert);
void ngx_vidgen_relay_alert_set(ngx_vidgen_zone_t *zone, ngx_str_t *subject,
    ngx_vidgen_relay_alert_t *alert);


#endif /* _NGX_VIDGEN_RELAY_H_INCLUDED_ */
