#ifndef _NGX_VIDGEN_MONITOR_CONF_H_INCLUDED_
#define _NGX_VIDGEN_MONITOR_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg.h"
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_zone.h"


/*
 * What the monitor is told: vidgen_monitor, vidgen_alert, vidgen_state_path
 * and what it needs of the rest of the configuration.
 */

typedef struct {
    ngx_str_t                  token;        /* of the bot: in no log */
    ngx_str_t                  chat;
    ngx_str_t                  url;          /* before "/bot" */
    ngx_msec_t                 every;        /* between two outages told */
    ngx_msec_t                 repeat;       /* while down; 0: off */
    u_char                    *file;         /* where it stands */
    ngx_uint_t                 line;
} ngx_vidgen_alert_conf_t;

typedef struct {
    ngx_uint_t                 enabled;
    ngx_vidgen_health_rule_t   rule;         /* the workers' too */
    ngx_msec_t                 timeout;      /* of one request */
    ngx_msec_t                 poll;         /* between polls */
    ngx_msec_t                 overdue;      /* silence of a webhook */
    ngx_msec_t                 unknown;
    ngx_msec_t                 expire;
    ngx_vidgen_alert_conf_t   *alert;        /* NULL: none */
    ngx_path_t                *path;         /* vidgen_state_path */

    /* set when all has been read */
    ngx_array_t               *providers;    /* of ngx_vidgen_provider_t * */
    ngx_vidgen_zone_t         *zone;
    ngx_vidgen_pg_conf_t      *database;     /* NULL: none */
    ngx_msec_t                 ttl;          /* of idempotency rows */
    ngx_str_t                  ca_file;      /* empty: the system's */
} ngx_vidgen_monitor_conf_t;


#endif /* _NGX_VIDGEN_MONITOR_CONF_H_INCLUDED_ */
