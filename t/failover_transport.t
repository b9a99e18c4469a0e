#!/usr/bin/perl

# Providers that cannot be reached, do not answer, or break off: whether they
# may have got the request, and that the next one is asked in time.  What is
# sent to one server of a group is not sent to another.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Certificate;
use VidgenTest::Dns;
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts job moves);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;
use VidgenTest::Util qw(free_port);

# Where the first provider is; what a stand-in there does, if there is one;
# its attempt; whether the attempt's timeout has to pass; how many requests a
# stand-in got.
my @cases = (
    ['nobody listens', 'http://127.0.0.1:%%PORT_NOBODY%%', undef,
        'unsent - connect', 0],
    ['nobody listens for TLS', 'https://127.0.0.1:%%PORT_NOBODY%%', undef,
        'unsent - connect', 0],
    ['no member of the group listens', 'http://nobodies', undef,
        'unsent - connect', 0],
    ['none of its addresses', 'http://nobodies.test:%%PORT_NOBODY%%', undef,
        'unsent - connect', 0],

    ['there is no such name', 'http://absent.test:1', undef, 'unsent - dns',
        0],
    ['there is no such name for TLS', 'https://absent.test:1', undef,
        'unsent - dns', 0],
    ['the name server is silent', 'http://silent.test:1', undef,
        'unsent - timeout', 1],

    ['not TLS', 'https://127.0.0.1:%%PORT%%', undef, 'unsent - tls', 0],
    ['closed within the handshake', 'https://127.0.0.1:%%PLAIN_PORT%%',
        { drop => 'before' }, 'unsent - (?:tls|connect)', 0],
    ['nobody vouches for it', 'https://127.0.0.1:%%STRANGE_PORT%%', {},
        'unsent - tls', 0],
    ['another name', 'https://other.test:%%TLS_PORT%%', {}, 'unsent - tls',
        0],
    ['silent within the handshake', 'https://127.0.0.1:%%SILENT_PORT%%',
        undef, 'unsent - timeout', 1],

    ['its queue is full', 'http://127.0.0.1:%%FULL_PORT%%', undef,
        'unsent - timeout', 1],
    ['its queue is full, with TLS', 'https://127.0.0.1:%%FULL_PORT%%', undef,
        'unsent - timeout', 1],
    ['its queue is full, of a group', 'http://full', undef,
        'unsent - timeout', 1],

    # the kernel of the stand-in takes the request, in most cases
    ['reset before it was read', '%%PLAIN%%', { drop => 'before' },
        'un(?:known - reset|sent - connect)', 0],
    ['closed after it was read', '%%PLAIN%%', { drop => 'after' },
        'unknown - reset', 0, 1],
    ['closed after it was read over TLS', '%%TLS%%', { drop => 'after' },
        'unknown - reset', 0, 1],
    ['closed after it was read, of a group', 'http://pair',
        { drop => 'after' }, 'unknown - reset', 0, 1],
    ['no answer of a group', 'http://pair', { hang => 1 },
        'unknown - timeout', 1, 1],
    ['no answer', '%%PLAIN%%', { hang => 1 }, 'unknown - timeout', 1, 1],
    ['no answer over TLS', '%%TLS%%', { hang => 1 }, 'unknown - timeout', 1,
        1],
    ['a late answer', '%%PLAIN%%', { delay => 30 }, 'unknown - timeout', 1,
        1],
    ['a slow answer', '%%PLAIN%%', { trickle => 0.1 }, 'unknown - timeout',
        1, 1],
    ['a slow refusal', '%%PLAIN%%', { status => 422, trickle => 0.1 },
        'unknown - timeout', 1, 1],
    ['half of an answer', '%%PLAIN%%', { stall => 1 }, 'unknown - timeout', 1,
        1],

    # its status is all that is wanted of it
    ['half of a large refusal', '%%PLAIN%%', { status => 503, stall => 1,
        body => 'x' x 200_000 }, 'refused 503 http_503', 1, 1],

    # these are no failures
    ['over TLS', '%%TLS%%', {}, 'accepted 200 -', 0, 1],
    ['by name over TLS', 'https://localhost:%%TLS_PORT%%', {},
        'accepted 200 -', 0, 1],
    ['the second of a group', 'http://half', {}, 'accepted 200 -', 0, 1],
    ['one of its addresses', 'http://half.test:%%PLAIN_PORT%%', {},
        'accepted 200 -', 0, 1],
);

plan tests => 7 * @cases + 2;

my $providers = '';
my $locations = '';

for my $i (0 .. $#cases) {
    $providers .= <<"EOT";
vidgen_provider case-$i {
    base $cases[$i][1];
    submit {
        url      \$vidgen_base/case-$i;
        job_id   /request_id;
    }
}
EOT
    my $more = $cases[$i][4] ? 'vidgen_attempt_timeout 1s;' : '';
    $locations .= <<"EOT";
location = /$i { vidgen_generate case-$i second; $more }
EOT
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $plain = VidgenTest::Provider->new;
my $tls = VidgenTest::Provider->new(tls => 1);
my $strange = VidgenTest::Provider->new(tls => 1);
my $second = VidgenTest::Provider->new;
my $backup = VidgenTest::Provider->new;
my %standin = (PLAIN => $plain, TLS => $tls, STRANGE => $strange,
    BACKUP => $backup);

my $dns = VidgenTest::Dns->new(names => {
    'other.test'  => '127.0.0.1',
    'localhost'   => '127.0.0.1',
    'silent.test' => 'silence',
});
$dns->set('nobodies.test', '127.0.0.1', '127.0.0.2');
$dns->set('half.test', '127.0.0.3', '127.0.0.1', '127.0.0.4');

# takes connections and says nothing
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10,
    LocalPort => free_port(), ReuseAddr => 1) or die "listen: $@";

# takes no further one
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
    LocalPort => free_port()) or die "listen: $@";
my @queued = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
    PeerPort => $full->sockport, Timeout => 1) } 1 .. 2;

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, SECOND => $second->url,
        DNS => $dns->address, CA => $tls->ca,
        SILENT_PORT => $silent->sockport, FULL_PORT => $full->sockport,
        map { ($_ => $standin{$_}->url, "${_}_PORT" => $standin{$_}->port,
            "${_}_HOST" => $standin{$_}->host) } keys %standin },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    resolver        %%DNS%%;
    include         providers.conf;

    vidgen_provider second {
        base %%SECOND%%;
        submit {
            url     $vidgen_base/second;
            job_id  /request_id;
        }
    }

    upstream nobodies {
        server 127.0.0.1:%%PORT_NOBODY%%;
        server 127.0.0.2:%%PORT_NOBODY%%;
        keepalive 1;
    }
    upstream pair {
        server %%PLAIN_HOST%% max_fails=0;
        server %%BACKUP_HOST%% backup;
    }
    upstream full {
        server 127.0.0.1:%%FULL_PORT%% max_fails=0;
        server %%BACKUP_HOST%% backup;
    }
    upstream half {
        server 127.0.0.1:%%PORT_NOBODY%%;
        server %%PLAIN_HOST%%;
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate %%CA%%;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);

for my $i (0 .. $#cases) {
    my ($name, $where, $answers, $attempt, $waits, $asked) = @{ $cases[$i] };
    my $accepted = $attempt =~ /^accepted/;
    my ($which) = $where =~ /%%(PLAIN|TLS|STRANGE)/;
    my $standin = $standin{ $which // 'PLAIN' };

    $_->forget for values %standin, $second;
    $standin->next(%$answers) if $answers && %$answers;

    my $answer = post($nginx->url("/$i"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $job = $answer->{json}{job_id};

    is("$answer->{status} $answer->{json}{provider}",
        '200 ' . ($accepted ? "case-$i" : 'second'), "$name: the answer");
    ok($answer->{time} < 20 && (!$waits || $answer->{time} >= 0.9),
        "$name: in time") or diag($answer->{time});

    my $got = attempts($db, $job);
    like($got, $accepted ? qr/^case-$i $attempt$/
        : qr/^case-$i $attempt, second accepted 200 -$/,
        "$name: the attempts");
    my ($reason) = $got =~ /^\S+ \S+ \S+ ([^, ]+)/;
    is(moves($db, $job), $accepted ? '' : "case-$i second $reason",
        "$name: the failover log");
    is(job($db, $job), join(' ', $got =~ /unknown/ ? 'processing' : 'queued',
        $accepted ? "case-$i 1 -" : "second 2 $reason"), "$name: the job");
    is(ledger($db, $job), 'hold 1', "$name: the credits are held");

    is_deeply([scalar @{ $second->requests },
        scalar grep { $_->{body} && !$_->{dropped} || $_->{dropped}
            && $_->{dropped} eq 'after' } map { @{ $_->requests } }
            values %standin],
        [$accepted ? 0 : 1, $asked // 0], "$name: the requests");
}

is(balance($db, $user), 1000 - @cases, 'each was paid once');
is_deeply([wrong_books($db)], [], 'the books are right');
