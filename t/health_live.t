#!/usr/bin/perl

# Not under valgrind: it measures time
#
# Live traffic counts as probes do: what it makes of a provider's health, that
# it asks for a probe, that what is down is left alone, and how it comes back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);
use Test::More;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(get many post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(free_port wait_for);

# the answers: o accepts, f 503, g 502, u 500, 4 429, 2 422, b 400, n 404, c
# 401, p 402, i no job id, j no JSON, t none in time, r a reset, 8 408; x is
# the provider that nobody listens for
my %answers = (
    o => {},
    f => { status => 503 },
    g => { status => 502 },
    u => { status => 500 },
    4 => { status => 429, headers => { 'Retry-After' => 0 } },
    2 => { status => 422 },
    b => { status => 400 },
    n => { status => 404 },
    c => { status => 401 },
    p => { status => 402 },
    i => { body => '{"id":1}' },
    j => { body => 'accepted' },
    t => { hang => 1 },
    r => { drop => 'after' },
    8 => { status => 408 },
);

my %words = (h => 'healthy', g => 'degraded', d => 'down');

my @table = (
    ['oo',       'hh',    'all is well'],
    ['fo',       'gh',    'one failure'],
    ['fff',      'ggd',   'three 503'],
    ['gu',       'gg',    '502 and 500'],
    ['ttt',      'ggd',   'timeouts'],
    ['rrr',      'ggd',   'resets'],
    ['iji',      'ggd',   'invalid answers'],
    ['xxx',      'ggd',   'nobody listens'],
    ['2222',     'hhhh',  'a refused content is no failure'],
    ['bbbb',     'hhhh',  'nor a bad request'],
    ['nnn',      'hhh',   'nor a 404'],
    ['888',      'hhh',   'nor a 408'],
    ['44',       'hh',    'nor a 429'],
    ['ff2f',     'gggd',  'they do not break a row'],
    ['c',        'g',     'our key is refused'],
    ['pp',       'gg',    'no money'],
    ['ffcff',    'ggggg', 'the provider is there'],
    ['ffoff',    'gghgg', 'failures that are not in a row'],
);

plan tests => @table + 21;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 1000);
my $nobody = 'http://127.0.0.1:' . free_port();

my $definitions = '';
for my $i (0 .. $#table) {
    my ($sequence) = @{ $table[$i] };
    my $base = $sequence =~ /x/ ? $nobody : $provider->url;
    $provider->script(qr{/live$i$},
        map { $answers{$_} // {} } split //, $sequence);
    $definitions .= <<EOT;
    vidgen_provider live$i {
        submit { url $base/live$i; job_id /request_id; }
        poll   { url $base/jobs/\$vidgen_provider_job_id;
                 status /status; video_url /url; }
    }
EOT
}

sub server {
    my ($locations, $timeout) = @_;
    return <<EOT;
    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_attempt_timeout        $timeout;
        location = /health { vidgen_health; }
        $locations
    }
EOT
}

sub nginx {
    my ($settings, $definitions, $locations, $timeout) = @_;
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
        config => <<'EOT' =~ s/#SETTINGS/$settings/r . $definitions
%%GLOBALS%%
worker_processes 2;
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  #SETTINGS;
EOT
        . server($locations, $timeout // '2s') . "}\n")->start;
}

sub generate {
    my ($nginx, $location, %more) = @_;
    return post($nginx->url($location),
        { user_id => $user, model_id => 'm', prompt => 'p', %more });
}

sub status {
    my ($nginx, $name) = @_;
    return get($nginx->url("/health?provider=$name"))->{json}{status};
}


# sequences of answers

my $nginx = nginx('interval=1h slow=0', $definitions, <<'EOT');
        location = /one {
            vidgen_generate;
            vidgen_next_provider off;
        }
EOT

for my $i (0 .. $#table) {
    my ($sequence, $statuses, $what) = @{ $table[$i] };
    my @found;
    for (split //, $sequence) {
        generate($nginx, '/one', provider => "live$i");
        push @found, status($nginx, "live$i");
    }
    is("@found", "@{[ map { $words{$_} } split //, $statuses ]}",
        "$sequence: $what");
}

# down for every worker, at once

my @answers = map { generate($nginx, '/one', provider => 'live2') } 1 .. 8;
my @asked = grep { $_->{uri} eq '/live2' } @{ $provider->requests };
is(scalar @asked, 3, 'what is down is asked by no worker');
is(scalar(grep { $_->{status} == 200 } @answers), 8, 'another one is');

# in the log: one row for each change

is(scalar(wait_for {
    my $n = $pg->value("SELECT count(*) FROM provider_health_log
        WHERE provider_name = 'live2'");
    $n == 2 && $n;
}), 2, 'one row for each change by live traffic');
like($nginx->error_log, qr/\[error\].*provider "live2" is down: 3 failures/,
    'and a line');
$nginx->stop;


# live failures ask for a probe

$provider->forget;
$provider->on(qr{POST /jobs}, status => 503);
$nginx = nginx('interval=1h fails=2', <<'EOT', <<'EOT');
    vidgen_provider probed {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/health; }
    }
EOT
        location = /one { vidgen_generate; vidgen_next_provider off; }
EOT

sub probes { grep { $_->{uri} eq '/health' } @{ $provider->requests } }

sub outages { $pg->value("SELECT count(*) FROM provider_health_log
    WHERE provider_name = 'probed' AND status = 'down'") }

ok((wait_for { my @p = probes(); @p == 1 }), 'probed at the start');
my $asked = time;
generate($nginx, '/one') for 1 .. 2;
ok((wait_for { my @p = probes(); @p == 2 }), 'a failure asks for a probe');
ok((wait_for { status($nginx, 'probed') eq 'healthy' }),
    'which says that it is there');
my $outages = outages();
generate($nginx, '/one') for 1 .. 2;
is(status($nginx, 'probed'), 'down', 'down again');

# the monitor, which writes it down, has looked for what to probe

wait_for { outages() > $outages };
my @p = probes();
ok(@p == 2 || time - $asked > 9, 'but not for one each time')
    or diag(scalar @p);
$nginx->stop;


# down by probes: no traffic, and nobody waits for it

$provider->forget;
$provider->on(qr{/sick}, hang => 1);
$nginx = nginx('interval=1h fails=1 timeout=3s', <<'EOT', <<'EOT', '20s');
    vidgen_provider sick {
        submit { url %%BASE%%/sick; job_id /id; }
        probe  { url %%BASE%%/sick; }
    }
    vidgen_provider well {
        submit { url %%BASE%%/well; job_id /request_id; }
        poll   { url %%BASE%%/x/$vidgen_provider_job_id; status /status;
                 video_url /url; }
        probe  { url %%BASE%%/well; }
    }
EOT
        location = /both { vidgen_generate; }
        location = /sick { vidgen_generate sick; }
EOT

ok((wait_for { status($nginx, 'sick') eq 'down' }), 'one is down');
my $began = time;
@answers = many(map { ['POST', $nginx->url('/both'),
    { 'Content-Type' => 'application/json' },
    qq({"user_id":"$user","model_id":"m","prompt":"p"})] } 1 .. 20);
my $took = time - $began;
is(scalar(grep { $_->{status} == 200 && $_->{json}{provider} eq 'well' }
    @answers), 20, 'all go to the other one');
cmp_ok($took, '<', 10, 'without waiting');
my $answer = generate($nginx, '/sick');
is_deeply([$answer->{status}, $answer->{json}{code}], [503, 'no_provider'],
    'it alone: none is available');
cmp_ok($answer->{time}, '<', 10, 'at once');
is(scalar(grep { $_->{method} eq 'POST' && $_->{uri} eq '/sick' }
    @{ $provider->requests }), 0, 'it was not asked');
$nginx->stop;


# nobody probes it: a trial now and then, by one for all

$provider->forget;
$provider->script(qr{/alone}, ({ status => 503 }) x 4, {});
$nginx = nginx('interval=3s fails=3', <<'EOT', <<'EOT');
    vidgen_provider alone {
        submit { url %%BASE%%/alone; job_id /request_id; }
        poll   { url %%BASE%%/x/$vidgen_provider_job_id; status /status;
                 video_url /url; }
    }
EOT
        location = /one { vidgen_generate; vidgen_next_provider off; }
EOT

generate($nginx, '/one') for 1 .. 3;
is(status($nginx, 'alone'), 'down', 'down by live traffic alone');
is(generate($nginx, '/one')->{status}, 503, 'left alone for two intervals');

sub trials { scalar @{ $provider->requests } }

ok((wait_for { many(5, 'POST', $nginx->url('/one'),
    { 'Content-Type' => 'application/json' },
    qq({"user_id":"$user","model_id":"m","prompt":"p"}));
    trials() > 3 }), 'then it is tried');
is(trials(), 4, 'by one request only');
ok((wait_for { generate($nginx, '/one')->{status} == 200 }),
    'and again an interval later');
is(status($nginx, 'alone'), 'healthy', 'which brings it back');
$nginx->stop;
