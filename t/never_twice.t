#!/usr/bin/perl

# Whatever the setting and whatever goes wrong: no provider is asked again for
# a job that it may have; with "unsent" alone nobody is asked after a byte has
# left for anybody.  As the stand-ins themselves have seen it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Test::More;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Twice qw(asked_twice);
use VidgenTest::Util qw(free_port);

my @settings = ('', qw(error timeout http_5xx http_429 http_401 http_402
    http_403 http_404 invalid_answer unsent off), 'unsent error',
    'unsent invalid_answer', 'unsent http_429 http_5xx',
    'error timeout http_5xx http_429 http_401 http_402 http_403 http_404'
        . ' invalid_answer unsent');

# what all three providers do
my %faults = (
    (map { $_ => { status => $_ } } 202, 302, 400, 401, 402, 403, 404, 408,
        422, 429, 500, 501, 502, 503, 504, 522),
    nothing  => { body => '' },
    nonsense => { body => '<html>' },
    no_id    => { body => {} },
    huge     => { body => '{"request_id":"' . 'a' x 70_000 . '"}' },
    closed   => { drop => 'after' },
    cut      => { drop => 'middle' },
    silent   => { hang => 1 },
    slow     => { trickle => 0.5 },
    busy     => { body => { busy => 1 } },
    alright  => {},
);
my @faults = sort keys %faults;
my @providers = qw(a b c);          # a is idempotent

# one of its own for each fault, so that a 429 is no other's
my $providers = '';
my $locations = '';
for my $fault (@faults, 'absent', 'mute') {
    for my $name (@providers) {
        my $base = $fault eq 'absent' ? 'http://127.0.0.1:%%PORT_NOBODY%%'
            : $fault eq 'mute' ? 'https://127.0.0.1:%%MUTE%%' : "%%\U$name%%";
        my $more = $name eq 'a' ? 'idempotent;' : '';
        $providers .= <<"EOT";
vidgen_provider $name-$fault {
    submit {
        url     $base/$fault;
        header  X-Attempt \$vidgen_attempt_id;
        body    /prompt \$vidgen_prompt;
        job_id  /request_id;
        retry   /busy 1;
        $more
    }
}
EOT
    }
    for my $i (0 .. $#settings) {
        my $words = $settings[$i] && "vidgen_next_provider $settings[$i];";
        $locations .= <<"EOT";
location = /$i/$fault { vidgen_generate @{[map { "$_-$fault" } @providers]};
                        $words }
EOT
    }
}

plan tests => 3 + @settings + 4;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my %standin = map { $_ => VidgenTest::Provider->new(prefix => $_) }
    @providers;
for my $standin (values %standin) {
    $standin->on(qr{/$_$}, %{ $faults{$_} }) for @faults;
}

my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 500,
    LocalPort => free_port(), ReuseAddr => 1) or die "listen: $@";

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, MUTE => $mute->sockport,
        map { uc, $standin{$_}->url } @providers },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { worker_connections 4096; }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=20s;
    vidgen_monitor  fails=1000;
    include         providers.conf;

    server {
        listen 127.0.0.1:%%PORT%% backlog=1024;

        vidgen_attempt_timeout        2s;
        vidgen_retry                  attempts=3 backoff=50ms;
        vidgen_next_provider_timeout  9s;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $user = customer($pg, 10_000);
my @requests;
for my $i (0 .. $#settings) {
    push @requests, map { ['POST', $nginx->url("/$i/$_"), {},
        qq({"user_id":"$user","model_id":"m","prompt":"$i $_"})] }
        @faults, 'absent', 'mute';
}

my @answers = many(@requests);
is_deeply([map { $_->{status} } grep { $_->{status} !~ /^(?:20[02]|422|50[23])$/
    } @answers], [], 'each is answered');

my %log = map { $_ => $standin{$_}->requests } @providers;
is_deeply([asked_twice(\%log, idempotent => ['a'], refused => qr{/busy$})], [],
    'nobody was asked again for what he may have');
cmp_ok(@{ $log{c} }, '>', @settings, 'others were asked');

# who has seen a request at all, by setting and fault

my %seen;
for my $name (@providers) {
    for my $request (@{ $log{$name} }) {
        my ($i, $fault) = $request->{body} =~ /"prompt":"(\d+) (\w+)"/;
        push @{ $seen{$i}{$fault} }, $name;
    }
}

for my $i (0 .. $#settings) {
    my $words = $settings[$i] || 'the default';
    my @wrong = grep {
        my $seen = @{ $seen{$i}{$_} // [] };
        # a 429 of another one may have come before
        $seen > ($words =~ /^(?:unsent|off)$/ ? 1 : 9)
            || $seen < 1 && $_ ne '429';
    } @faults;
    is_deeply([map { "$_: @{ $seen{$i}{$_} // [] }" } @wrong], [],
        "$words: how often");
}

# the same is told by the database

is($pg->value(<<'SQL'), 0, 'no two attempts at one provider may have the job');
SELECT count(*) FROM (
    SELECT FROM vidgen.attempts WHERE state NOT IN ('unsent', 'refused')
     GROUP BY job_id, provider HAVING count(*) > 1) x
SQL
is($pg->value(<<'SQL'), 0, 'each request had its attempt, committed before');
SELECT count(*) FROM vidgen.attempts
 WHERE state = 'sending' OR state = 'unsent' AND http_status IS NOT NULL
SQL
my %attempt = map { $_->{headers}{'x-attempt'} => 1 } map { @$_ } values %log;
is($pg->value("SELECT count(*) FROM vidgen.attempts WHERE id = ANY ('{"
    . join(',', keys %attempt) . "}')"), scalar keys %attempt,
    'and is known');

is_deeply([wrong_books($pg)], [], 'the books are right');
